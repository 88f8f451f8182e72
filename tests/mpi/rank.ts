/**
 * `deno task train` as a rank, with the model `tiny`. It says which process it is. Its first word
 * may name a fault and when it happens (`lost=3`). Not a test.
 */

import { defaultDevice } from "@resnette/resnette";
import { Mpi } from "@resnette/resnette/mpi";
import { main } from "../../scripts/train.ts";
import { onSubmit } from "../faults/gpu.ts";
import "../tiny_train.ts";

/** What may happen to a rank, by its name; each gets a number. */
const FAULTS: Readonly<Record<string, (at: number) => Promise<void>>> = {
  /** Rank 1 loses its device when it submits that work. */
  async lost(at) {
    const { gpu } = await defaultDevice();
    if (mpi.rank === 1) onSubmit(gpu, (number) => number === at && gpu.destroy());
  },
  /** The disk of rank 0 is full once so many files are written to it. */
  full(at) {
    const { sync } = Deno.FsFile.prototype;
    let files = 0;
    Deno.FsFile.prototype.sync = async function () {
      if (mpi.rank === 0 && ++files > at) throw new Error("No space left on device (os error 28)");
      await sync.call(this);
    };
    return Promise.resolve();
  },
  /** Rank 1 fails, and nobody is there to catch it. */
  uncaught(at) {
    if (mpi.rank === 1) setTimeout(() => Promise.reject(new Error("of rank 1")), at);
    return Promise.resolve();
  },
};

const mpi = await Mpi.init();
console.error(`rank ${mpi.rank} of ${mpi.size} is process ${Deno.pid}, by ${mpi.library}`);
const [, name, at] = Deno.args[0]?.match(/^(\w+)=(\d+)$/) ?? [];
if (name !== undefined) await FAULTS[name]!(Number(at));
Deno.exit(await main(Deno.args.slice(name === undefined ? 0 : 1)));
