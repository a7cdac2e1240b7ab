/**
 * Which part of an output to read. Without any: from the start. `maxBytes` (default 65,536; at least 1, but a character
 * that is larger comes whole; `Infinity`: as much as any window has) bounds what is read. `offset` and `tailBytes` are
 * in bytes; an offset within a character moves on to the next one. `tailLines` is the last n lines, or as much of their
 * end as `maxBytes` allows; the newline at the very end begins no line. No window is larger than 64 MiB, whatever was
 * asked for: read on at `nextOffset`.
 */
export type ReadOutputOptions =
  | {
      offset?: number | undefined;
      maxBytes?: number | undefined;
      tailBytes?: never;
      tailLines?: never;
    }
  | { tailBytes: number; offset?: never; maxBytes?: never; tailLines?: never }
  | { tailLines: number; maxBytes?: number | undefined; offset?: never; tailBytes?: never };

/** A part of an output, cut at character boundaries. */
export interface OutputWindow {
  /**
   * Bytes that are no UTF-8 are U+FFFD. A character that a running task has only begun to write is left for the next
   * read.
   */
  readonly text: string;
  /** Where `text` begins in the file, in bytes. */
  readonly offset: number;
  /** Where to read on. */
  readonly nextOffset: number;
  /** The size of the whole output when it was read, in bytes. */
  readonly size: number;
  /** Whether there is output that this window leaves out, before it or behind it. */
  readonly truncated: boolean;
  /** The file that holds the whole output. */
  readonly path: string;
}
