// The types that the package publishes, against hosts written for the contract: in ES modules and in CommonJS.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { beforeAll, describe, expect, it } from 'vitest';
import { type ContractReport, compareWithContract } from '../helpers/contract.js';
import { built, compile, compilerOptions, root, shared } from '../helpers/house.js';

const copies = join(root, 'test/house/types');
const originals = join(shared, 'types');
/**
 * A host of the first version of the contract must not notice that the declarations have moved on. `negative.ts` went along with them: what was
 * a mistake, a `Task<Kinds>` where a `Task` is wanted, is none any more.
 */
const firstHosts = ['host.ts'];
const options: ts.CompilerOptions = compilerOptions(join(copies, 'tsconfig.json'));

/** The contract's own options, with `holdfast` standing for what was built. */
function against(declarations: string): ts.CompilerOptions {
  return { ...options, pathsBasePath: root, paths: { holdfast: [built(declarations)] } };
}

describe('hosts written for the contract', () => {
  it.skipIf(!existsSync(originals)).each(firstHosts)('keeps an exact copy of %s', (file) => {
    expect(readFileSync(join(copies, file), 'utf8')).toBe(readFileSync(join(originals, file), 'utf8'));
  });

  it('uses the strict options that hosts use', () => {
    expect(options).toMatchObject({
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      skipLibCheck: false,
      module: ts.ModuleKind.NodeNext,
    });
  });

  it('both hold against the declarations for ES modules', () => {
    expect(compile([join(copies, 'host.ts'), join(copies, 'negative.ts')], against('index.d.ts'))).toEqual([]);
  });

  it('a host without await at the top holds against the declarations for CommonJS', () => {
    expect(compile([join(copies, 'commonjs-host.cts')], against('index.d.cts'))).toEqual([]);
  });

  it('resolves the package by its own name, both ways and both entries', () => {
    const { paths: _, ...byName } = options;
    expect(compile([join(copies, 'by-name.mts'), join(copies, 'by-name.cts')], byName)).toEqual([]);
  });

  it('finds a mistake', () => {
    const problems = compile([join(copies, 'mistake.ts')], against('index.d.ts'));
    expect(problems.join('\n')).toMatch(/comand.*does not exist.*Did you mean to write 'command'/s);
  });

  it('keeps what the main types say', () => {
    const settings = compilerOptions(join(root, 'tsconfig.json'));
    expect(compile([join(root, 'test/house/main-types.test.ts')], settings)).toEqual([]);
  });
});

describe('every name of the contract', () => {
  let report: ContractReport;
  beforeAll(() => {
    report = compareWithContract(join(copies, 'holdfast.d.ts'));
  });

  it('is published', () => {
    expect(report.missing).toEqual([]);
  });

  it('means the same', () => {
    expect(report.different).toEqual([]);
  });

  it('was compared', () => {
    expect(report.compared.length).toBeGreaterThan(50);
  });
});
