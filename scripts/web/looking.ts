/**
 * The picture that is looked at, and the messages about what the net makes of it.
 *
 * @module
 */

import { DeviceError } from "../../lib/device/device.ts";
import { type Data, labelled } from "./data.ts";
import type { Eye } from "./eye.ts";
import { prepare } from "./prepare.ts";
import type { FromWorker, Picture, Pixels } from "./protocol.ts";

/** Milliseconds between two looks inside the net, which read much. */
const INSIDE_AFTER = 500;

/** Looks at a picture, again and again. */
export class Looking {
  #eye: Eye | undefined;
  #data: Data | undefined;
  /** What was asked for, and is not made ready yet. */
  #asked: Picture | undefined;
  #picture: Picture | undefined;
  /** What the net gets of the picture. */
  #ready: { readonly pixels: Pixels; readonly label?: number } | undefined;
  #insideShown = false;
  #insideAt = 0;
  #looking: Promise<void> | undefined;
  #again = false;

  constructor(readonly tell: (message: FromWorker) => void) {}

  /** Looks with another net from now on, which was trained on other data, perhaps. */
  async use(eye: Eye, data: Data): Promise<void> {
    // A picture is none of other images.
    if (this.#data?.source !== data.source) this.#picture = this.#ready = undefined;
    this.#eye = eye;
    this.#data = data;
    if (this.#picture) await this.#take(this.#picture);
  }

  /** Looks no more, until there is another net. */
  close(): void {
    this.#eye?.dispose();
    this.#eye = undefined;
  }

  /** Whether the layers are in view. */
  show(inside: boolean): Promise<void> {
    this.#insideShown = inside;
    this.#insideAt = 0;
    return this.look();
  }

  /**
   * Notes the picture to take next; whether somebody has to call {@link Looking.take}. Whoever draws asks
   * faster than a slow device looks: the last picture counts.
   */
  ask(picture: Picture): boolean {
    const before = this.#asked;
    this.#asked = picture;
    return before === undefined;
  }

  /** Takes the picture that was asked for, and looks at it. */
  async take(): Promise<void> {
    const picture = this.#asked!;
    this.#asked = undefined;
    await this.#take(picture);
  }

  async #take(picture: Picture): Promise<void> {
    this.#picture = picture;
    if (!this.#eye || !this.#data) return;
    const { test, source } = this.#data;
    if (picture.kind === "test") {
      const { label, ...pixels } = labelled(test, Math.min(picture.index, test.count - 1));
      this.#ready = { pixels, label };
    } else {
      const image = picture.kind === "file" ? picture.file : picture.image;
      this.#ready = { pixels: await prepare(image, test, source) };
    }
    const { label } = this.#ready, seen = this.#eye.seen(this.#ready.pixels);
    this.tell({ type: "seen", seen, ...label !== undefined && { label } });
    this.#insideAt = 0;
    await this.look();
  }

  /** Tells what the net makes of the picture now. One look at a time: another one waits for it. */
  look(): Promise<void> {
    this.#again = true;
    return this.#looking ??= this.#looks().finally(() => this.#looking = undefined);
  }

  async #looks(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      const eye = this.#eye, ready = this.#ready;
      if (!eye || !ready) return;
      try {
        const probabilities = await eye.likely(ready.pixels);
        if (ready !== this.#ready) continue;
        this.tell({ type: "likely", probabilities });
        if (!this.#insideShown || performance.now() - this.#insideAt < INSIDE_AFTER) continue;
        this.tell({ type: "layers", layers: await eye.layers(ready.pixels) });
        this.#insideAt = performance.now();
      } catch (error) {
        // A net that was given up meanwhile, or a device that was lost: who trains is told.
        if (this.#eye === eye && !(error instanceof DeviceError)) throw error;
      }
    }
  }
}
