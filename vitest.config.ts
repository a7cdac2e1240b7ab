import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    // Of the lab only its own unit tests: its experiments are run by `npm run lab`.
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/helpers/leaks.ts'],
    pool: 'forks',
    // Many tests start processes of their own: more files at a time would only starve each other.
    maxWorkers: 3,
    // Generous on purpose: it is how long a broken promise takes to fail.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts'],
      reporter: ['text-summary', 'json-summary'],
      // What runs in child processes, as the crash tests do, is not counted.
      thresholds: { lines: 90, branches: 85 },
    },
  },
});
