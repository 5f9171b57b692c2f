// A file of lines in a directory that several processes use at the same time.
//
// Each process appends to a file of its own, and shows by its time that it lives. A file whose process is gone, or has not
// shown itself for some time, is taken over by whoever renames it first. If that process lives after all, both send what
// is in it: each delivery has a name by which the server takes it once.

import { randomUUID } from "node:crypto";
import * as fs from "node:fs";
import { hostname } from "node:os";
import path from "node:path";

const SHOWN_EVERY_MS = 5_000;
/** A process that has not shown itself for so long is taken for gone. */
const GONE_AFTER_MS = 60_000;
const ENDING = ".kept";
const TAKEN = ".taken";
const NEW = ".new";

/** A file that a process has left. */
export interface Left {
  readonly lines: readonly string[];
  /** Takes lines out: all, by deleting the file; else lines are added that say what is done. */
  readonly done: (what: "all" | readonly string[]) => void;
}

export class KeptFile {
  #file: number | undefined;
  #path = "";
  #size = 0;
  #torn = false;
  #timer: NodeJS.Timeout | undefined;
  lines = 0;

  /** @param taken called when somebody has taken the file over: what comes next goes into another one */
  constructor(
    private readonly directory: string,
    private readonly taken: () => void,
  ) {}

  get isOpen(): boolean {
    return this.#file !== undefined;
  }

  append(line: string): void {
    const file = (this.#file ??= this.#open());
    const data = Buffer.from(`${this.#torn ? "\n" : ""}${line}\n`);
    try {
      writeAll(file, data);
    } catch (error) {
      // Half a line would spoil the next one.
      this.#torn = true;
      try {
        fs.ftruncateSync(file, this.#size);
        this.#torn = false;
      } catch {
        // The next line begins with an end of line.
      }
      throw error;
    }
    this.#torn = false;
    this.#size += data.length;
    this.lines += 1;
  }

  /** Written anew beside it, so that a crash in between loses nothing. */
  rewrite(lines: readonly string[]): void {
    const file = this.#file;
    if (file === undefined) return;
    if (lines.length === 0) {
      fs.ftruncateSync(file, 0);
      this.#written(0, 0);
      return;
    }
    const beside = `${this.#path}${NEW}`;
    const data = Buffer.from(lines.map((line) => `${line}\n`).join(""));
    fs.rmSync(beside, { force: true });
    const made = fs.openSync(beside, "ax", 0o600);
    try {
      writeAll(made, data);
      fs.renameSync(beside, this.#path);
    } catch (error) {
      fs.closeSync(made);
      fs.rmSync(beside, { force: true });
      throw error;
    }
    fs.closeSync(file);
    this.#file = made;
    this.#written(data.length, lines.length);
  }

  close(empty: boolean): void {
    clearInterval(this.#timer);
    if (this.#file === undefined) return;
    fs.closeSync(this.#file);
    if (empty) fs.rmSync(this.#path, { force: true });
    this.#file = undefined;
  }

  /** The files of processes that are gone. They belong to this process from now on. */
  *left(): Generator<Left> {
    for (const name of list(this.directory)) {
      const place = path.join(this.directory, name);
      if (name.endsWith(NEW)) removeOld(place);
      if (place === this.#path || !(name.endsWith(ENDING) || name.endsWith(TAKEN))) continue;
      const taken = path.join(this.directory, `${nameOfProcess()}.${randomUUID()}${TAKEN}`);
      try {
        if (!gone(name, fs.statSync(place).mtimeMs)) continue;
        fs.renameSync(place, taken);
        // Not old any more, so that nobody else takes it meanwhile.
        fs.utimesSync(taken, new Date(), new Date());
        const lines = fs.readFileSync(taken, "utf8").split("\n");
        yield { lines, done: (what) => this.#done(taken, what) };
      } catch (error) {
        // Another process was quicker, or the disk fails: it is tried again later.
        if ((error as NodeJS.ErrnoException).code === undefined) throw error;
      }
    }
  }

  #done(taken: string, what: "all" | readonly string[]): void {
    if (what === "all") fs.rmSync(taken, { force: true });
    else if (what.length > 0) fs.appendFileSync(taken, `\n${what.join("\n")}\n`);
  }

  #open(): number {
    fs.mkdirSync(this.directory, { recursive: true });
    this.#path = path.join(this.directory, `${nameOfProcess()}.${randomUUID()}${ENDING}`);
    const file = fs.openSync(this.#path, "ax", 0o600);
    this.#written(0, 0);
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#show(), SHOWN_EVERY_MS).unref();
    return file;
  }

  #written(size: number, lines: number): void {
    this.#size = size;
    this.lines = lines;
    this.#torn = false;
  }

  #show(): void {
    try {
      const now = new Date();
      fs.utimesSync(this.#path, now, now);
    } catch {
      // This process was stopped for so long, or the clock was set on, that somebody has taken it for gone.
      if (this.#file !== undefined && !fs.existsSync(this.#path)) {
        fs.closeSync(this.#file);
        this.#file = undefined;
        this.taken();
      }
    }
  }
}

function nameOfProcess(): string {
  return `${encodeURIComponent(hostname()).replaceAll(".", "%2E")}.${String(process.pid)}`;
}

function gone(name: string, writtenAt: number): boolean {
  const [host = "", pid = ""] = name.split(".");
  if (Date.now() - writtenAt > GONE_AFTER_MS) return true;
  if (`${host}.${pid}` === nameOfProcess()) return false;
  if (host !== nameOfProcess().split(".")[0]) return false;
  try {
    process.kill(Number(pid), 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
}

/** What a process has left that ended while it wrote its file anew. */
function removeOld(place: string): void {
  try {
    if (Date.now() - fs.statSync(place).mtimeMs > 10 * GONE_AFTER_MS) fs.rmSync(place, { force: true });
  } catch {
    // Its process has finished meanwhile.
  }
}

function list(directory: string): string[] {
  try {
    return fs.readdirSync(directory).sort();
  } catch {
    return [];
  }
}

/** A disk that is nearly full takes a part. */
function writeAll(file: number, data: Buffer): void {
  for (let at = 0; at < data.length;) at += fs.writeSync(file, data, at);
}
