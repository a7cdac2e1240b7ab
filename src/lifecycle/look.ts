/*
 * "Look at this task": the one path by which a task is found to run on, to be adopted, or to have ended. A child's exit, a change on disk,
 * the reconcile timer, a stop and `open` all come here; none of them judges anything by itself.
 */

import type { OutOfReach } from '../task/kind.js';
import { isOrphanedLegacy } from '../task/orphan.js';
import type { TaskRecord } from '../task/record.js';
import type { JsonObject } from '../task/types.js';
import { type Core, isOver, toTaskError } from './core.js';
import { type Finding, type Found, find, newDetails, record as recordFinding } from './driver.js';
import type { Entry } from './entry.js';
import { abandoned, outOfReach } from './out-of-reach.js';
import type { Recovery } from './recovery.js';
import { detailPatch, type Settlement } from './settlement.js';

/** What came of a look. `open`: the outcome is known and could not be written. */
export type LookResult = 'active' | 'adopted' | 'settled' | 'lost' | 'open';

export class Looker {
  readonly #core: Core;
  readonly #settlement: Settlement;
  readonly #recovery: Recovery;
  readonly #hinted = new Set<Entry>();

  constructor(core: Core, settlement: Settlement, recovery: Recovery) {
    this.#core = core;
    this.#settlement = settlement;
    this.#recovery = recovery;
  }

  /** Throws what the probe threw: then nothing was settled. */
  async look(entry: Entry): Promise<LookResult> {
    // There is nothing to look at before `start` has answered, and however long that takes, nobody else waits for it.
    if (entry.launching) return 'active';
    return entry.exclusive(() => this.lookNow(entry));
  }

  /** Somebody thinks that something happened: looks soon, once for any number of hints. Resolves with what came of it, if it was this one. */
  async hint(entry: Entry): Promise<LookResult | undefined> {
    if (this.#hinted.has(entry)) return undefined;
    this.#hinted.add(entry);
    try {
      return await entry.exclusive(() => {
        this.#hinted.delete(entry);
        return this.lookNow(entry);
      });
    } catch (error) {
      if (!isOver(error)) this.#core.reportOnce(toTaskError(error, 'STORAGE_FAILED', entry.taskId), entry.taskId);
      return undefined;
    }
  }

  /** For those who hold the entry's turn already. */
  async lookNow(entry: Entry): Promise<LookResult> {
    // What `start` has not answered for yet can be neither there nor gone.
    if (!entry.active || entry.launching) return 'active';
    if (entry.outcome) return this.#settle(entry, undefined);
    // Another system's host is gone and its work was never ours: nothing to probe, and nobody to ask.
    if (entry.orphaned && isOrphanedLegacy(entry.record)) return this.#settle(entry, undefined);
    if (entry.orphaned && entry.record.status === 'queued') return this.#bury(entry);
    if (!entry.kind || entry.record.status === 'queued') return 'active';
    const finding = this.#reached(entry, await find(this.#core, entry));
    if (finding.ended) {
      const { ending, neverBegan } = finding.outcome;
      // A supervisor that was adopted before it came to its first line may turn out to have been refused: nothing ran, whoever owns the task.
      const mayGoOn = ending === 'gone' && (entry.orphaned || neverBegan !== undefined);
      return mayGoOn ? this.#bury(entry, finding) : this.#settle(entry, finding);
    }
    if (entry.orphaned) {
      await this.#recovery.adopt(entry, finding.found && recordableDetails(entry, finding.found));
      if (finding.found) await this.#note(entry, finding.found);
      return 'adopted';
    }
    if (finding.found) await this.#note(entry, finding.found);
    return 'active';
  }

  /** Remembers whether the work can be reached. Where it cannot for as long as this host waits, it is abandoned. */
  #reached(entry: Entry, finding: Finding): Finding {
    const where = finding.ended ? undefined : (finding.found as Partial<OutOfReach> | undefined)?.outOfReach;
    const now = this.#core.clock.monotonic();
    entry.outOfReach = where === undefined ? undefined : { where, since: entry.outOfReach?.since ?? now };
    if (!entry.outOfReach) return finding;
    const { abandonAfterMs } = this.#core.settings;
    if (abandonAfterMs === undefined || now - entry.outOfReach.since < abandonAfterMs) {
      this.#core.reportOnce(outOfReach(entry), entry.taskId);
      return finding;
    }
    return { ended: true, outcome: abandoned(this.#core, entry, `after ${abandonAfterMs} ms out of reach`) };
  }

  /** Nothing of it lives. What never began is queued again; what died with its owner may be taken up again by its kind; the rest is lost. */
  async #bury(entry: Entry, finding?: Extract<Finding, { ended: true }>): Promise<LookResult> {
    const neverBegan = entry.record.status === 'queued' || finding?.outcome.neverBegan !== undefined;
    if (!neverBegan) {
      if (await this.#recovery.recover(entry)) return entry.active ? 'active' : 'settled';
      return this.#settle(entry, finding);
    }
    const answer = await this.#recovery.requeue(entry, finding?.outcome.details);
    if (answer.taken) return 'active';
    return this.#settle(entry, finding, answer.why);
  }

  async #settle(
    entry: Entry,
    finding: Extract<Finding, { ended: true }> | undefined,
    why = entry.orphaned
      ? 'its owner died, the work is gone, and nothing says how it ended'
      : 'the work is gone, and nothing says how it ended',
  ): Promise<LookResult> {
    const outcome = finding?.outcome ?? { ending: 'gone' as const, endedAt: this.#core.notBefore(entry.record) };
    const unexplained = outcome.ending === 'gone' && !entry.working.stop && outcome.stopReason === undefined;
    const judged = await this.#settlement.settle(entry, {
      ...outcome,
      ...(unexplained && { stopReason: why }),
      ...(entry.orphaned && entry.kind?.start && { outlivedCaller: true }),
    });
    if (!judged) return 'open';
    return entry.record.status === 'lost' ? 'lost' : 'settled';
  }

  async #note(entry: Entry, found: Found): Promise<void> {
    await recordFinding(this.#core, entry, found);
    if (found.state !== 'running' || !found.progress) return;
    const { updatedAt: _, ...before }: Partial<NonNullable<TaskRecord['progress']>> = entry.view.progress ?? {};
    const progress = detailPatch(found.progress);
    if (JSON.stringify(before) !== JSON.stringify(progress)) this.#recovery.reportProgress(entry, progress);
  }
}

/** Nonsense keeps nobody from being adopted: it is refused, and reported, by the note that follows. */
function recordableDetails(entry: Entry, found: Found): JsonObject | undefined {
  try {
    return newDetails(entry, found);
  } catch {
    return undefined;
  }
}
