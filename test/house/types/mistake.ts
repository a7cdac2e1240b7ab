// Must not compile: a misspelt field gets a suggestion.
import { BackgroundTaskManager } from 'holdfast';
const manager = await BackgroundTaskManager.open({ directory: 'x' });
await manager.registerTask({ kind: 'process', description: 'work', comand: 'x' });
