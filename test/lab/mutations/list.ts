/*
 * Ways to break the library, at least one for each row: a row that does not notice is worth nothing. `find` must occur exactly once in its
 * file; when the code has moved on, the run says so.
 */
export interface Mutation {
  readonly row: number;
  /** What is wrong with the library now. */
  readonly broken: string;
  readonly edits: readonly Edit[];
}

export interface Edit {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export const mutations: readonly Mutation[] = [
  {
    row: 1,
    broken: 'a record is announced while it is still being written',
    edits: [
      {
        file: 'src/lifecycle/task/ledger.ts',
        find: 'await this.#shared.store.put(',
        replace: 'void this.#shared.store.put(',
      },
    ],
  },
  {
    row: 2,
    broken: 'a record is rewritten in place, in two steps',
    edits: [
      {
        file: 'src/store/durable-file.ts',
        find: '      await rename(next, target);',
        replace: `      const fs = await import('node:fs/promises');
      await rename(next, \`\${target}.old\`);
      await fs.writeFile(target, bytes.subarray(0, bytes.length >> 1), { mode: 0o600 });
      await fs.appendFile(target, bytes.subarray(bytes.length >> 1));
      await fs.unlink(\`\${target}.old\`);`,
      },
    ],
  },
  {
    row: 3,
    broken: 'a process is launched before its record is written',
    edits: [
      {
        file: 'src/store/file-store.ts',
        find: '    const { taskId } = record;\n',
        replace: `    const { taskId } = record;
    if (record.kind === 'process' && record.status === 'running' && record.details.pid === null) return;
`,
      },
    ],
  },
  {
    row: 4,
    broken: 'a launch is tried twice, and the right to run is not exclusive',
    edits: [
      { file: 'src/process/supervisor/shim.ts', find: '\nset -C\n', replace: '\nset +C\n' },
      {
        file: 'src/process/supervisor/spawn.ts',
        find: "    return await begun(request.create({ stdio: ['ignore', file.fd, file.fd] }), request);",
        replace: `    request.create({ stdio: ['ignore', file.fd, file.fd] }).unref();
    return await begun(request.create({ stdio: ['ignore', file.fd, file.fd] }), request);`,
      },
    ],
  },
  {
    row: 5,
    broken: 'the end of a process is the time at which it was found',
    edits: [
      {
        file: 'src/process/supervisor/outcome.ts',
        find: 'const endedAt = Math.max(exit.at, task.startedAt ?? 0);',
        replace: 'const endedAt = Math.max(Date.now(), task.startedAt ?? 0);',
      },
    ],
  },
  {
    row: 5,
    broken: 'an exit code beyond 100 is read wrongly',
    edits: [
      {
        file: 'src/process/supervisor/outcome.ts',
        find: 'const outcome = outcomeOf(exit.code, { endedAt });',
        replace: 'const outcome = outcomeOf(exit.code % 100, { endedAt });',
      },
    ],
  },
  {
    row: 5,
    broken: 'an exit record is believed while its supervisor lives',
    edits: [
      {
        file: 'src/process/supervisor/posix.ts',
        find: 'if (!exit || !lived) return { lives: lived, exit };',
        replace: 'if (exit || !lived) return { lives: lived, exit };',
      },
    ],
  },
  {
    row: 6,
    broken: 'a registration that the disk refused keeps its slot',
    edits: [{ file: 'src/lifecycle/registration.ts', find: 'admission.slot?.release();', replace: '' }],
  },
  {
    row: 6,
    broken: 'the size of what was written is not looked at',
    edits: [
      {
        file: 'src/store/durable-file.ts',
        find: 'if (size !== bytes.length) throw',
        replace: 'if (size > bytes.length) throw',
      },
    ],
  },
  {
    row: 6,
    broken: 'a write that failed takes the old record with it',
    edits: [
      {
        file: 'src/store/durable-file.ts',
        find: '      await discard(next);\n      throw error;',
        replace: '      await discard(next);\n      await discard(target);\n      throw error;',
      },
    ],
  },
  {
    row: 7,
    broken: 'any status is believed',
    edits: [
      {
        file: 'src/task/record.ts',
        find: '  status: z.enum(taskStatuses),',
        replace: '  status: z.string() as never,',
      },
    ],
  },
  {
    row: 7,
    broken: 'a record is set aside without a reason',
    edits: [
      {
        file: 'src/store/reject.ts',
        find: 'fchmodSync(fd, 0o600);\n    writeFileSync(fd,',
        replace: 'fchmodSync(fd, 0o600);\n    String(',
      },
    ],
  },
  {
    row: 8,
    broken: 'the newest queued task starts first',
    edits: [
      {
        file: 'src/lifecycle/queue.ts',
        find: 'for (const place of this.#places) {',
        replace: 'for (const place of [...this.#places].reverse()) {',
      },
    ],
  },
  {
    row: 8,
    broken: 'what is queued is killed when the manager closes',
    edits: [
      {
        file: 'src/lifecycle/closing.ts',
        find: "return record.status !== 'queued' && (work.whenHostEnds !== 'goes on' || !record.detached);",
        replace: "return record.status === 'queued' || work.whenHostEnds !== 'goes on' || !record.detached;",
      },
    ],
  },
  {
    row: 9,
    broken: 'a claim replaces another one of the same number',
    edits: [
      {
        file: 'src/store/takeover.ts',
        find: 'await link(draft, claim);',
        replace: "await (await import('node:fs/promises')).rename(draft, claim);",
      },
    ],
  },
  {
    row: 10,
    broken: 'one more than the limit gets a slot',
    edits: [
      {
        file: 'src/lifecycle/slots.ts',
        find: 'if (this.#used >= limit) return { used',
        replace: 'if (this.#used > limit) return { used',
      },
    ],
  },
  {
    row: 10,
    broken: 'processes take no slot',
    edits: [
      {
        file: 'src/lifecycle/registration.ts',
        find: '#admit({ detached, slot, group, whenFull }: ParsedSpec, seq: number)',
        replace: '#admit({ kind, detached, slot, group, whenFull }: ParsedSpec, seq: number)',
      },
      {
        file: 'src/lifecycle/registration.ts',
        find: '    if (!detached) return {};',
        replace: "    if (!detached || kind.name === 'process') return {};",
      },
    ],
  },
  {
    row: 11,
    broken: 'whoever has the pid is taken for the supervisor',
    edits: [
      {
        file: 'src/process/supervisor/command-line.ts',
        find: 'return line !== undefined && namesSupervisor(line, of);',
        replace: 'return line !== undefined && of !== undefined;',
      },
    ],
  },
  {
    row: 11,
    broken: 'whoever is in a session of the number on record is signalled',
    edits: [
      {
        file: 'src/process/supervisor/process-tree.ts',
        find: 'isSessionOurs: await this.supervisorLives(),',
        replace: 'isSessionOurs: this.pid !== null,',
      },
    ],
  },
  {
    row: 11,
    broken: 'who cannot be told from a stranger is called gone',
    edits: [
      {
        file: 'src/process/supervisor/membership.ts',
        find: 'const uncertain = isLedByStranger ? [] :',
        replace: 'const uncertain = isLedByStranger || !isSessionOurs ? [] :',
      },
    ],
  },
  {
    row: 12,
    broken: 'an owner that is stopped is taken for dead',
    edits: [
      { file: 'src/store/identity.ts', find: "entry.state !== 'Z'", replace: "!['Z', 'T'].includes(entry.state)" },
    ],
  },
  {
    row: 13,
    broken: 'a stop knows only the group and the session',
    edits: [
      {
        file: 'src/process/table/proc-table.ts',
        find: 'taskId: environ ? this.#taskIn(environ) : undefined }',
        replace: 'taskId: environ && this.#taskIn(environ) && undefined }',
      },
    ],
  },
  {
    row: 13,
    broken: 'a host in the tree of its own task is a member like any other',
    edits: [
      {
        file: 'src/process/supervisor/process-tree.ts',
        find: 'return members.filter((row) => !own.has(row.pid));',
        replace: 'return members.filter(() => own.size >= 0);',
      },
    ],
  },
  {
    row: 13,
    broken: 'the marks of the tasks around are not kept',
    edits: [
      {
        file: 'src/process/table/marks.ts',
        find: 'if (around.length > 0) env[',
        replace: 'if (around.length > 99) env[',
      },
    ],
  },
  {
    row: 13,
    broken: 'the ceiling looks at a path',
    edits: [
      {
        file: 'src/process/supervisor/posix.ts',
        find: 'if (await this.#tree.supervisorLives()) {',
        replace: "if (this.#tree.taskId === '') {",
      },
    ],
  },
  {
    row: 13,
    broken: 'processes are listed once and then read',
    edits: [
      { file: 'src/process/table/proc-table.ts', find: 'const MAX_PASSES = 100;', replace: 'const MAX_PASSES = 1;' },
    ],
  },
  {
    row: 14,
    broken: 'a delivery that was tried before a restart is not tried again',
    edits: [
      {
        file: 'src/hooks/outbox.ts',
        find: "if (owed.state === 'pending') this.#deliver(",
        replace: "if (owed.state === 'pending' && owed.attempts === 0) this.#deliver(",
      },
    ],
  },
  {
    row: 15,
    broken: 'the folder is not synced after a rename',
    edits: [{ file: 'src/store/durable-file.ts', find: '    await handle.sync();', replace: '    handle.fd;' }],
  },
  {
    row: 16,
    broken: 'the timer of a deadline outlives its task',
    edits: [{ file: 'src/lifecycle/task/deadline.ts', find: '    this.#timer?.clear();\n', replace: '' }],
  },
  {
    row: 17,
    broken: 'a listener that throws keeps others from hearing',
    edits: [{ file: 'src/events.ts', find: 'round.thrown.push(error);', replace: 'throw error;' }],
  },
  {
    row: 18,
    broken: 'who follows an output leaves its watcher behind',
    edits: [
      {
        file: 'src/output/changes.ts',
        find: '    this.#watcher?.close();\n    this.#watcher = undefined;\n',
        replace: '    this.#watcher = undefined;\n',
      },
    ],
  },
  {
    row: 19,
    broken: 'a queue that was left behind is resumed newest first',
    edits: [
      {
        file: 'src/lifecycle/task/takeover.ts',
        find: 'queue.enter(task.record.group, task.seq, ',
        replace: 'queue.enter(task.record.group, -task.seq, ',
      },
    ],
  },
  {
    row: 19,
    broken: 'what its kind could take up again is killed when the manager closes',
    edits: [
      {
        file: 'src/lifecycle/closing.ts',
        find: "work.whenHostEnds === 'can begin again'",
        replace: "work.whenHostEnds === 'goes on'",
      },
    ],
  },
  {
    row: 19,
    broken: 'what never began counts as an attempt',
    edits: [
      {
        file: 'src/lifecycle/decide/decide.ts',
        find: "status: 'running', startedAt, owner, ...deadline }",
        replace:
          "status: 'running', startedAt, owner, ...deadline, attempt: record.owner?.instanceId === owner.instanceId ? 1 : 2 }",
      },
    ],
  },
  {
    row: 20,
    broken: 'a launch that was cut short is lost',
    edits: [
      {
        file: 'src/lifecycle/task/look.ts',
        find: "task.record.status === 'queued' || outcome.neverBegan !== undefined",
        replace: "task.record.status === 'queued' && outcome.neverBegan === undefined",
      },
    ],
  },
  {
    row: 20,
    broken: 'a task whose supervisor was adopted, and then refused, is lost',
    edits: [
      {
        file: 'src/lifecycle/task/look.ts',
        find: '(task.isOrphaned || neverBegan !== undefined)',
        replace: 'task.isOrphaned',
      },
    ],
  },
];
