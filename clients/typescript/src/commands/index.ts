// The low level: a typed call for each command, over any connection.

export { Commands, type Execute } from "./commands.js";
export * as requests from "./requests.js";
export { COMMANDS, type CommandInfo, type Family } from "./table.js";
export type * from "./types.js";
