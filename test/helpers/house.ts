// What the house tests share: where the repository is, how its commands are run, and how declarations are compiled.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import ts from 'typescript';
import { filesBelow, root } from '../../scripts/source.js';

export { filesBelow, root };

export const shared = join(root, '..', 'shared');

/** A path of the build, or an error that says what to do. `npm test` builds first. */
export function built(file: string): string {
  const path = join(root, 'dist', file);
  if (!existsSync(path)) throw new Error(`dist/${file} is missing: run "npm run build" first`);
  return path;
}

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end, whatever that is; standard input is closed. */
export function run(
  file: string,
  args: readonly string[],
  options: { cwd?: string; timeoutMs?: number } = {},
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      file,
      args,
      {
        cwd: options.cwd ?? root,
        timeout: options.timeoutMs ?? 50_000,
        maxBuffer: 64 * 1024 * 1024,
        killSignal: 'SIGKILL',
      },
      (error, stdout, stderr) => {
        if (error && child.pid === undefined) reject(error);
        else resolve({ code: child.exitCode, stdout, stderr });
      },
    );
    child.stdin?.end();
  });
}

/**
 * What TypeScript has to say about these files and the built declarations, one line a problem; what is wrong inside of libraries and in
 * the sources is for others to say. `virtual` files exist nowhere but there.
 */
export function compile(
  files: readonly string[],
  options: ts.CompilerOptions,
  virtual: Readonly<Record<string, string>> = {},
): string[] {
  const program = createProgram(files, options, virtual);
  const checked = program
    .getSourceFiles()
    .filter(({ fileName }) => files.includes(fileName) || fileName.startsWith(join(root, 'dist')));
  return [
    ...program.getOptionsDiagnostics(),
    ...program.getGlobalDiagnostics(),
    ...checked.flatMap((file) => [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)]),
  ].map(describeDiagnostic);
}

/** Parsed declarations of libraries, by format: most of the time of a small program is spent on them. */
const parsed = new Map<string, ts.SourceFile | undefined>();

export function createProgram(
  files: readonly string[],
  options: ts.CompilerOptions,
  virtual: Readonly<Record<string, string>> = {},
): ts.Program {
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (file) => file in virtual || fileExists.call(host, file);
  host.readFile = (file) => virtual[file] ?? readFile.call(host, file);
  host.getSourceFile = (file, version, ...rest) => {
    if (virtual[file] !== undefined) return ts.createSourceFile(file, virtual[file], version);
    if (!file.includes('/node_modules/')) return getSourceFile.call(host, file, version, ...rest);
    const key = `${options.module} ${file}`;
    if (!parsed.has(key)) parsed.set(key, getSourceFile.call(host, file, version, ...rest));
    return parsed.get(key);
  };
  return ts.createProgram(files, options, host);
}

/** What a file exports, by name: the declared things themselves, wherever they are re-exported from. */
export function exportsOf(program: ts.Program, file: string): ReadonlyMap<string, ts.Symbol> {
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(file);
  const module = source && checker.getSymbolAtLocation(source);
  if (!module) throw new Error(`${file} is missing or exports nothing`);
  return new Map(
    checker.getExportsOfModule(module).map((symbol) => {
      const isAlias = (symbol.flags & ts.SymbolFlags.Alias) !== 0;
      return [symbol.name, isAlias ? checker.getAliasedSymbol(symbol) : symbol];
    }),
  );
}

export function describeDiagnostic(diagnostic: ts.Diagnostic): string {
  const text = ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n');
  if (!diagnostic.file) return `TS${diagnostic.code}: ${text}`;
  const { line } = diagnostic.file.getLineAndCharacterOfPosition(diagnostic.start ?? 0);
  return `${relative(root, diagnostic.file.fileName)}:${line + 1} TS${diagnostic.code}: ${text}`;
}

/** The compiler options of a configuration file, as `tsc -p` would use them. */
export function compilerOptions(configFile: string): ts.CompilerOptions {
  const { config, error } = ts.readConfigFile(configFile, ts.sys.readFile);
  if (error) throw new Error(describeDiagnostic(error));
  const parsed = ts.parseJsonConfigFileContent(config, ts.sys, dirname(configFile));
  if (parsed.errors.length > 0) throw new Error(parsed.errors.map(describeDiagnostic).join('\n'));
  return parsed.options;
}
