import { existsSync, readdirSync } from 'node:fs';
import { defineConfig } from 'tsup';

/** A folder of src with an index.ts is a part beside the core, and that is its entry. */
const parts = readdirSync('src').filter((name) => existsSync(`src/${name}/index.ts`));

export default defineConfig({
  entry: { index: 'src/index.ts', ...Object.fromEntries(parts.map((name) => [name, `src/${name}/index.ts`])) },
  // Built into the entries that use them, so that no host has to install them. Their licences are in THIRD-PARTY-LICENSES.
  noExternal: ['ipaddr.js', 'standardwebhooks'],
  format: ['esm', 'cjs'],
  target: 'node20',
  platform: 'node',
  dts: true,
  // All entries must share one PermanentDeliveryError class, in CommonJS too.
  splitting: true,
  // Has rollup write the CommonJS: otherwise sucrase would rewrite the classes, and their names with it.
  treeshake: true,
  // A class that refers to itself would otherwise be called _BackgroundTaskManager.
  keepNames: true,
  sourcemap: true,
  clean: true,
});
