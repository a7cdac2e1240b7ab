/*
 * For a documented interface beside the schema that checks it: a field that was added to only one of the two must not
 * compile.
 *
 *   type _Same = None<Differences<Documented, z.output<typeof schema>>>;
 *
 * The compiler then names a field: `Type '"newField"' does not satisfy the constraint 'never'`.
 */

/** Compiles for `never` only. */
export type None<T extends never> = T;

/**
 * The paths of the fields in which two object types differ. Whether a field is `readonly` is not compared; whether it
 * is optional, is.
 */
export type Differences<A, B, Path extends string = ''> =
  | `${Path}${Exclude<keyof A, keyof B> & string}`
  | `${Path}${Exclude<keyof B, keyof A> & string}`
  | { [K in keyof A & keyof B & string]: FieldDifferences<A[K], B[K], `${Path}${K}`> }[keyof A & keyof B & string];

type FieldDifferences<A, B, Path extends string> = [A, B] extends [B, A]
  ? HasNamedFields<NonNullable<A>> extends true
    ? Differences<NonNullable<A>, NonNullable<B>, `${Path}.`>
    : never
  : Path;

/**
 * An object with fields of its own: no array, function, class of the platform, or map by name. Two of them may accept
 * each other's values and yet differ in an optional field.
 */
type HasNamedFields<T> = [T] extends [readonly unknown[] | ((...args: never[]) => unknown) | EventTarget]
  ? false
  : [T] extends [object]
    ? string extends keyof T
      ? false
      : true
    : false;
