import type { Experiment } from '../lab.js';
import { faults } from './faults.js';
import { killsAtRandom, killsEverywhere, killsInRegistration, launchesOnce } from './kills.js';

/** All rows of the table, in its order. */
export const experiments: readonly Experiment[] = [killsAtRandom, killsEverywhere, killsInRegistration, launchesOnce, faults];
