import { defineConfig } from 'tsup';

export default defineConfig({
  entry: { index: 'src/index.ts', webhook: 'src/hooks/webhook.ts' },
  format: ['esm', 'cjs'],
  target: 'node20',
  platform: 'node',
  dts: true,
  // Both entries must share one PermanentDeliveryError class, in CommonJS too.
  splitting: true,
  sourcemap: true,
  clean: true,
});
