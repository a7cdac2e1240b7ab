import type { Experiment } from '../lab.js';
import { absence } from './absence.js';
import { cutShort } from './cut-short.js';
import { deliveries } from './deliveries.js';
import { manyTasks, soak } from './endurance.js';
import { faults } from './faults.js';
import { killsAtRandom, killsEverywhere, killsInRegistration, launchesOnce } from './kills.js';
import { badNeighbours } from './listeners.js';
import { modelBased } from './model.js';
import { falselyLost, ownershipRaces } from './owners.js';
import { powerCuts } from './power.js';
import { queueOutlives } from './queue.js';
import { damagedRecords } from './records.js';
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
  damagedRecords,
  modelBased,
  ownershipRaces,
  slotLimit,
  strangers,
  falselyLost,
  trees,
  deliveries,
  powerCuts,
  manyTasks,
  badNeighbours,
  soak,
  queueOutlives,
  cutShort,
];
