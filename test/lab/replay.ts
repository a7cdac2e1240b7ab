/*
 * A disk that loses its power. It is fed with the calls that hosts/fs-shim.cjs recorded, and knows for each file what was written and what
 * of that an fsync made sure of, and for each folder which names it has and which of them an fsync made sure of. Nothing else is promised:
 * not that a rename waits for the data of its file, not that names become durable in order.
 */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';

/** One line of the record: a call as it begins, and again once it has succeeded. */
export interface Call {
  readonly id: number;
  readonly call: string;
  readonly phase: 'begin' | 'end';
  readonly paths: readonly string[];
  /** The open file that it concerns, or that it opened. */
  readonly file?: number;
  readonly flags?: string | number;
  /** Base64. */
  readonly data?: string;
  readonly position?: number;
}

interface File {
  readonly kind: 'file';
  data: Buffer;
  synced: Buffer;
}
interface Folder {
  readonly kind: 'folder';
  readonly names: Map<string, Node>;
  synced: ReadonlyMap<string, Node>;
}
type Node = File | Folder;

/** What a name or the data of a file may be found as, after the power was lost. */
export type Fate = 'as synced' | 'as written';

export class Disk {
  readonly #root: Folder = newFolder();
  readonly #directory: string;
  readonly #open = new Map<number, Node>();
  readonly #begun = new Map<
    number,
    { readonly call: Call; readonly content: Buffer | ReadonlyMap<string, Node> | undefined }
  >();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** A call counts once it has succeeded; an fsync makes sure of what was there when it began. */
  feed(call: Call): void {
    if (call.phase === 'begin') {
      this.#begun.set(call.id, {
        call,
        content: /^f(?:data)?sync$/.test(call.call) ? this.#contentOf(call) : undefined,
      });
      return;
    }
    const begun = this.#begun.get(call.id);
    this.#begun.delete(call.id);
    if (!begun) return;
    if (begun.content) this.#sync(call, begun.content);
    else this.#apply(begun.call, call);
  }

  /** Writes what is left after the power was lost; `fate` decides what becomes of each thing that no fsync made sure of. */
  restore(target: string, fate: () => Fate): void {
    restoreFolder(this.#root, target, fate);
  }

  #contentOf({ file }: Call): Buffer | ReadonlyMap<string, Node> | undefined {
    const node = this.#open.get(file ?? -1);
    return node?.kind === 'file' ? node.data : node && new Map(node.names);
  }

  #sync({ file }: Call, content: Buffer | ReadonlyMap<string, Node>): void {
    const node = this.#open.get(file ?? -1);
    if (node?.kind === 'file') node.synced = content as Buffer;
    else if (node) node.synced = content as ReadonlyMap<string, Node>;
  }

  #apply(begun: Call, ended: Call): void {
    const { call, paths } = begun;
    const [from = '', to = ''] = paths;
    switch (call) {
      case 'open':
        if (ended.file !== undefined) this.#open.set(ended.file, this.#openAt(from, begun.flags));
        break;
      case 'mkdir':
        this.#makeFolder(from);
        break;
      case 'write':
      case 'writeFile':
      case 'appendFile':
        this.#write(begun);
        break;
      case 'truncate':
      case 'ftruncate':
        this.#write({ ...begun, call: 'writeFile', data: '' });
        break;
      case 'rename':
      case 'link':
        this.#move(from, to, call === 'rename');
        break;
      case 'unlink':
      case 'rmdir':
      case 'rm':
        this.#parent(from).names.delete(nameOf(from));
        break;
      default: // modes and times: not what this disk is about
    }
  }

  #openAt(path: string, flags: string | number | undefined): Node {
    const existing = this.#find(path);
    const cuts = typeof flags === 'number' ? (flags & 0o1000) !== 0 : /w/.test(flags ?? 'r');
    if (existing) {
      if (existing.kind === 'file' && cuts) existing.data = Buffer.alloc(0);
      return existing;
    }
    const file: File = { kind: 'file', data: Buffer.alloc(0), synced: Buffer.alloc(0) };
    this.#parent(path).names.set(nameOf(path), file);
    return file;
  }

  #write({ call, file, paths, data = '', position }: Call): void {
    const node = file === undefined ? this.#openAt(paths[0]!, 'a') : this.#open.get(file);
    if (node?.kind !== 'file') return;
    const bytes = Buffer.from(data, 'base64');
    if (call === 'writeFile') node.data = bytes;
    else if (position === undefined) node.data = Buffer.concat([node.data, bytes]);
    else
      node.data = Buffer.concat([node.data.subarray(0, position), bytes, node.data.subarray(position + bytes.length)]);
  }

  #move(from: string, to: string, removes: boolean): void {
    const node = this.#find(from);
    if (!node) return; // made by somebody else: the supervisor, a socket
    this.#parent(to).names.set(nameOf(to), node);
    if (removes) this.#parent(from).names.delete(nameOf(from));
  }

  /** With all folders on the way. */
  #makeFolder(path: string): Folder {
    let folder = this.#root;
    for (const name of this.#parts(path)) {
      const found = folder.names.get(name);
      const next = found?.kind === 'folder' ? found : newFolder();
      folder.names.set(name, next);
      folder = next;
    }
    return folder;
  }

  #parent(path: string): Folder {
    return this.#makeFolder(join(path, '..'));
  }

  #find(path: string): Node | undefined {
    let node: Node | undefined = this.#root;
    for (const name of this.#parts(path)) node = node?.kind === 'folder' ? node.names.get(name) : undefined;
    return node;
  }

  #parts(path: string): string[] {
    return relative(this.#directory, path).split('/').filter(Boolean);
  }
}

const newFolder = (): Folder => ({ kind: 'folder', names: new Map(), synced: new Map() });
const nameOf = (path: string) => path.slice(path.lastIndexOf('/') + 1);

function restoreFolder(folder: Folder, target: string, fate: () => Fate): void {
  mkdirSync(target, { recursive: true, mode: 0o700 });
  for (const name of new Set([...folder.synced.keys(), ...folder.names.keys()])) {
    const node = (fate() === 'as synced' ? folder.synced : folder.names).get(name);
    const path = join(target, name);
    if (node?.kind === 'folder') restoreFolder(node, path, fate);
    else if (node) {
      writeFileSync(path, fate() === 'as synced' ? node.synced : node.data, { mode: 0o600 });
      chmodSync(path, 0o600);
    }
  }
}
