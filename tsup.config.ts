import { defineConfig } from 'tsup';

export default defineConfig({
  entry: { index: 'src/index.ts', webhook: 'src/hooks/webhook.ts' },
  format: ['esm', 'cjs'],
  target: 'node20',
  platform: 'node',
  dts: true,
  // Both entries must share one PermanentDeliveryError class, in CommonJS too.
  splitting: true,
  // Has rollup write the CommonJS: otherwise sucrase would rewrite the classes, and their names with it.
  treeshake: true,
  // A class that refers to itself would otherwise be called _BackgroundTaskManager.
  keepNames: true,
  sourcemap: true,
  clean: true,
});
