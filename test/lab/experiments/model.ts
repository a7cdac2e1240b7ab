/* Row 8: random commands, given to the real manager and to a model of it. fast-check finds the shortest sequence that tells them apart. */
import fc from 'fast-check';
import { describe, type Experiment, range, type Trial } from '../lab.js';
import { isActive, isAtWork, Model, type ModelTask } from '../model.js';
import { Real } from '../real.js';

const LIMIT = 2;
const COMMANDS = 25;
/** How long a sequence may take, and one that failed is made shorter. */
const PATIENCE_MS = 40_000;

export const modelBased: Experiment = {
  row: 8,
  what: 'random commands against a simple model: a difference',
  budgetMs: { quick: 5_000 },
  async run(lab) {
    await lab.trials(range(lab.size({ quick: 30, full: 1_500 })), compareOnce);
  },
};

async function compareOnce(trial: Trial): Promise<void> {
  let runs = 0;
  const property = fc.asyncProperty(fc.commands(commands, { size: 'max', maxCommands: COMMANDS }), async (chosen) => {
    const real = new Real(trial.folderBeside(`run-${runs++}`), LIMIT);
    await real.open();
    try {
      await fc.asyncModelRun(() => ({ model: new Model(LIMIT), real }), chosen);
    } finally {
      await real.close();
    }
  });
  const seed = trial.random.int(0, 2 ** 31 - 1);
  const { failed, counterexample, errorInstance } = await fc.check(property, {
    numRuns: 1,
    seed,
    interruptAfterTimeLimit: PATIENCE_MS,
  });
  const found = counterexample
    ? `${counterexample.map(String).join('')}: ${describe(errorInstance)}`
    : `not done after ${PATIENCE_MS} ms`;
  if (failed) trial.violation(found);
}

/** A step of both. It is possible when the model knows a task for it; which one is chosen by number. */
class Step implements fc.AsyncCommand<Model, Real> {
  readonly #name: string;
  readonly #number: number;
  readonly #possible: (model: Model) => readonly string[];
  readonly #both: (model: Model, real: Real, taskId: string) => Promise<unknown>;

  constructor(
    name: string,
    number: number,
    possible: (model: Model) => readonly string[],
    both: (model: Model, real: Real, taskId: string) => Promise<unknown>,
  ) {
    this.#name = name;
    this.#number = number;
    this.#possible = possible;
    this.#both = both;
  }

  check(model: Readonly<Model>): boolean {
    return this.#possible(model as Model).length > 0;
  }

  async run(model: Model, real: Real): Promise<void> {
    const candidates = this.#possible(model);
    await this.#both(model, real, candidates[this.#number % candidates.length]!);
    await real.compare(model);
  }

  toString(): string {
    return `${this.#name} ${this.#number}`;
  }
}

type Both = (model: Model, real: Real, taskId: string) => Promise<unknown>;

const step = (name: string, possible: (model: Model) => readonly string[], both: Both) =>
  fc.nat(50).map((number) => new Step(name, number, possible, both));
const always = () => ['any'];

const register = (kind: ModelTask['kind'], detached: boolean, owes: boolean) =>
  step(`${detached ? 'background' : 'foreground'} ${kind}${owes ? ' that owes' : ''}`, always, async (model, real) => {
    const taskId = model.newId();
    model.add(taskId, { kind, detached, owes });
    await real.add(taskId, kind, detached, owes);
  });

const commands = [
  register('function', true, false),
  register('function', true, true),
  register('function', false, true),
  register('agent', true, true),
  register('process', true, true),
  register('process', false, false),
  step(
    'complete',
    (model) => model.ids(({ status }) => status === 'running'),
    async (model, real, taskId) => {
      model.end(taskId, 'completed');
      await real.end(taskId, 'completed');
    },
  ),
  step(
    'fail',
    (model) => model.ids(({ status }) => status === 'running'),
    async (model, real, taskId) => {
      model.end(taskId, 'failed');
      await real.end(taskId, 'failed');
    },
  ),
  step(
    'stop',
    (model) => model.ids(isActive),
    async (model, real, taskId) => {
      model.end(taskId, 'killed');
      await real.manager.stopTask(taskId);
    },
  ),
  step(
    'stop what has ended',
    (model) => model.ids((task) => !isActive(task)),
    (_model, real, taskId) => real.manager.stopTask(taskId),
  ),
  step(
    'ask',
    (model) => model.ids(({ kind, status }) => kind !== 'process' && status === 'running'),
    async (model, real, taskId) => {
      model.get(taskId).status = 'waiting';
      await real.ask(taskId);
    },
  ),
  step(
    'answer',
    (model) => model.ids(({ status }) => status === 'waiting'),
    async (model, real, taskId) => {
      Object.assign(model.get(taskId), { status: 'running', answer: 7 });
      await real.manager.provideInput(taskId, 7);
    },
  ),
  step(
    'detach',
    (model) => model.ids((task) => isAtWork(task) && !task.detached),
    async (model, real, taskId) => {
      model.detach(taskId);
      await real.manager.detachTask(taskId);
    },
  ),
  step(
    'update',
    (model) => model.ids(() => true),
    async (model, real, taskId) => {
      const before = model.get(taskId).metadata;
      const count = Object.keys(before).length;
      const metadata = { [`k${count}`]: count };
      Object.assign(before, metadata);
      await real.manager.updateTask(taskId, { metadata });
    },
  ),
  step(
    'acknowledge',
    (model) => model.ids((task) => !isActive(task) && task.inbox === 'pending'),
    async (model, real, taskId) => {
      model.get(taskId).inbox = 'delivered';
      await real.manager.acknowledge(taskId, 'inbox');
    },
  ),
  step(
    'skip',
    (model) => model.ids(({ inbox }) => inbox === 'pending'),
    async (model, real, taskId) => {
      model.get(taskId).inbox = 'skipped';
      await real.manager.skipHook(taskId, 'inbox');
    },
  ),
  step(
    'reserve',
    (model) => (model.isFull ? [] : ['any']),
    async (model, real) => {
      model.reserve();
      real.reserve();
    },
  ),
  step(
    'release',
    (model) => (model.reserved > 0 ? ['any'] : []),
    async (model, real) => {
      model.release();
      real.release();
    },
  ),
  step('prune', always, async (model, real) => {
    const expected = model.prune();
    const pruned = await real.manager.pruneTasks({ keep: 0 });
    if ([...pruned].sort().join() !== expected.sort().join())
      throw new Error(`pruned ${pruned.join()}, by the model ${expected.join()}`);
  }),
  step('reconcile', always, (_model, real) => real.manager.reconcile()),
  step('restart', always, async (model, real) => {
    model.restart();
    await real.restart();
  }),
  step(
    'stop, and restart while what was queued is launched',
    (model) =>
      model.ids(({ status }) => status === 'queued').length > 0
        ? model.ids((task) => isAtWork(task) && task.detached)
        : [],
    async (model, real, taskId) => {
      model.end(taskId, 'killed');
      await real.manager.stopTask(taskId);
      await real.begun(model);
      model.restart();
      await real.restart();
    },
  ),
];
