import type { Experiment } from '../lab.js';
import { absence } from './absence.js';
import { faults } from './faults.js';
import { killsAtRandom, killsEverywhere, killsInRegistration, launchesOnce } from './kills.js';
import { slotLimit } from './slots.js';
import { strangers } from './strangers.js';
import { trees } from './trees.js';

/** All rows of the table, in its order. */
export const experiments: readonly Experiment[] = [
  killsAtRandom,
  killsEverywhere,
  killsInRegistration,
  launchesOnce,
  absence,
  faults,
  slotLimit,
  strangers,
  trees,
];
