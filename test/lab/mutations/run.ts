export async function runMutations(_a: unknown, _b: number, _c: (t: string) => void): Promise<number> { return 1; }
