/** The kinds that every manager has; the others are defined by the host. */
export const builtInKinds = ['process', 'function'] as const;

export type BuiltInKind = (typeof builtInKinds)[number];
