/**
 * Random numbers that can be replayed: the counter-based generator Philox4x32-10.
 *
 * A counter-based generator is a pure function of (seed, stream, position), so its whole state is
 * three numbers that go into a checkpoint, and any part of the sequence can be made again, here or
 * in numpy, without making what came before it.
 *
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), and
 * its Random123 library, whose known answers are in `tests/graph/random_test.ts`.
 *
 * Do not use it for secrets. No seed comes from the clock. PyTorch's sequence differs (its CPU
 * generator is a Mersenne Twister).
 */

import { checkInstance, checkObject, shown } from "../check/arguments.ts";

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9 | 0;
const WEYL_1 = 0xbb67ae85 | 0;
const TWO_32 = 2 ** 32;
/** Words made at a time by the bulk methods: small enough to stay in the first-level cache. */
const CHUNK_WORDS = 2048;

/**
 * The high 32 bits of the 64-bit product of two 32-bit words, as a signed word. JavaScript has no
 * such operation: a double keeps 53 bits and a BigInt allocates, so this is schoolbook
 * multiplication in 16-bit halves. No partial sum exceeds 2^32 - 1, so reading each of them with
 * `>>>` is exact.
 */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = (Math.imul(aHigh, bLow) + (Math.imul(aLow, bLow) >>> 16)) | 0;
  const carry = (Math.imul(aLow, bHigh) + (middle & 0xffff)) | 0;
  return (Math.imul(aHigh, bHigh) + (middle >>> 16) + (carry >>> 16)) | 0;
}

/**
 * Writes `blocks` consecutive blocks of 4 words to the start of `out`: Philox4x32 with 10 rounds.
 * Counter words (c0, c1) are the block number, low word first; (c2, c3) stay, and so does the key. All
 * state lives in locals: nothing is allocated.
 */
export function philoxBlocks(
  out: Uint32Array,
  blocks: number,
  key0: number,
  key1: number,
  c0: number,
  c1: number,
  c2: number,
  c3: number,
): void {
  let low = c0 | 0;
  let high = c1 | 0;
  for (let at = 0; at < 4 * blocks; at += 4) {
    let x0 = low;
    let x1 = high;
    let x2 = c2 | 0;
    let x3 = c3 | 0;
    let k0 = key0 | 0;
    let k1 = key1 | 0;
    for (let round = 0; round < 10; round++) {
      const high0 = multiplyHigh(x0, MULTIPLIER_0);
      const high1 = multiplyHigh(x2, MULTIPLIER_1);
      const low0 = Math.imul(x0, MULTIPLIER_0);
      const low1 = Math.imul(x2, MULTIPLIER_1);
      x0 = high1 ^ x1 ^ k0;
      x1 = low1;
      x2 = high0 ^ x3 ^ k1;
      x3 = low0;
      k0 = (k0 + WEYL_0) | 0;
      k1 = (k1 + WEYL_1) | 0;
    }
    out[at] = x0;
    out[at + 1] = x1;
    out[at + 2] = x2;
    out[at + 3] = x3;
    low = (low + 1) | 0;
    if (low === 0) high = (high + 1) | 0;
  }
}

/** The state of a {@linkcode Random}, which JSON keeps exactly. */
export interface RandomState {
  /** Integer in 0..2^53-1. */
  seed: number;
  /** Integer in 0..2^32-1. */
  stream: number;
  /** How many 32-bit words were consumed: integer in 0..2^53-1. */
  position: number;
}

function checkInteger(what: string, value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new RangeError(`Random: ${what} must be an integer in 0..${max}, got ${shown(value)}`);
  }
}

/**
 * A replayable stream of random numbers. Generators with one seed and different `stream` numbers
 * are independent: one for the weights, one for each epoch's shuffle, and so on.
 *
 * The words are the 4 words of block 0, then of block 1, …, where block `b` is Philox4x32-10 of the
 * counter (b low, b high, stream, 0) under the key (seed low 32 bits, seed high 21 bits).
 *
 * @example
 * ```ts
 * import { Random } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const random = new Random(42);
 * const weights = random.uniform(new Float32Array(1000), -0.1, 0.1);
 *
 * // The state is three numbers; a generator made from them goes on where this one stands.
 * const again = new Random(random.seed, random.stream);
 * again.position = random.position;
 * assertEquals(again.nextUint32(), random.nextUint32());
 * ```
 */
export class Random {
  /** The seed given, an integer in 0..2^53-1. */
  readonly seed: number;
  /** The stream given, an integer in 0..2^32-1. */
  readonly stream: number;
  #position = 0;
  /** The words of block `#blockAt`, so that `nextUint32` makes each block once. */
  readonly #block: Uint32Array = new Uint32Array(4);
  #blockAt = -1;
  /** Bulk words, allocated by the first bulk call. */
  #chunk: Uint32Array | undefined;

  /**
   * A generator at position 0.
   *
   * @param seed Integer in 0..2^53-1.
   * @param stream Integer in 0..2^32-1; 0 by default.
   * @throws {RangeError} If either is not such an integer.
   */
  constructor(seed: number, stream = 0) {
    checkInteger("seed", seed, Number.MAX_SAFE_INTEGER);
    checkInteger("stream", stream, TWO_32 - 1);
    this.seed = seed;
    this.stream = stream;
  }

  /**
   * How many 32-bit words have been consumed. Setting it jumps there at no cost.
   *
   * @throws {RangeError} When set to anything but an integer in 0..2^53-1.
   */
  get position(): number {
    return this.#position;
  }
  set position(words: number) {
    checkInteger("position", words, Number.MAX_SAFE_INTEGER);
    this.#position = words;
  }

  /** The state, for a checkpoint: {@linkcode Random.fromState} makes an equal generator of it. */
  get state(): RandomState {
    return { seed: this.seed, stream: this.stream, position: this.#position };
  }

  /**
   * The generator with this state.
   *
   * @throws {ArgumentError} If `state` is no object.
   * @throws {RangeError} If a number is out of its range.
   */
  static fromState(state: RandomState): Random {
    checkObject("Random", "state", state);
    const random = new Random(state.seed, state.stream);
    random.position = state.position;
    return random;
  }

  /** The next word: an integer in 0..2^32-1. Consumes 1 word. */
  nextUint32(): number {
    const at = this.#advance(1);
    const block = Math.floor(at / 4);
    if (block !== this.#blockAt) {
      this.#generate(this.#block, block, 1);
      this.#blockAt = block;
    }
    return this.#block[at % 4]!;
  }

  /**
   * An integer in 0..bound-1, each equally likely. Consumes 1 word, seldom more: this is Lemire's
   * method ("Fast random integer generation in an interval", 2019), which takes the high word of
   * word × bound and draws again where the low word says that the result would be biased.
   *
   * @param bound Integer in 1..2^32-1.
   * @throws {RangeError} If `bound` is not such an integer.
   */
  below(bound: number): number {
    checkInteger("bound", bound, TWO_32 - 1);
    if (bound === 0) throw new RangeError("Random: bound must be at least 1, got 0");
    let word = this.nextUint32();
    let low = Math.imul(word, bound) >>> 0;
    if (low < bound) {
      const biased = (TWO_32 - bound) % bound;
      while (low < biased) {
        word = this.nextUint32();
        low = Math.imul(word, bound) >>> 0;
      }
    }
    return multiplyHigh(word, bound) >>> 0;
  }

  /**
   * Fills `out` with uniform numbers. Consumes `out.length` words, element i from word i.
   *
   * Each is `low + (high - low) * ((word >>> 8) * 2^-24)`, computed in float64 and rounded once, to
   * float32, when it is stored. So numpy gives the same bits, with `words` a uint32 array:
   * `(low + (high - low) * ((words >> 8) * 2.0**-24)).astype(numpy.float32)`.
   * The 24 bits are exact in float32, so `uniform(out, 0, 1)` never returns 1; with other bounds
   * the rounding may return `high` itself.
   *
   * @param out Any number of elements; overwritten and returned.
   * @param low Finite in float32; 0 by default.
   * @param high Finite in float32, not below `low`; 1 by default.
   * @throws {ArgumentError} If `out` is no Float32Array.
   * @throws {RangeError} If the bounds are not such numbers.
   */
  uniform<T extends Float32Array>(out: T, low = 0, high = 1): T {
    checkInstance("Random", "out", out, Float32Array);
    const finite = (x: number) => typeof x === "number" && Number.isFinite(Math.fround(x));
    if (!(finite(low) && finite(high) && low <= high)) {
      throw new RangeError(
        `Random: uniform needs finite bounds in order, got ${shown(low)}..${shown(high)}`,
      );
    }
    const span = high - low;
    this.#eachChunk(out.length, (words, count, offset) => {
      for (let i = 0; i < count; i++) out[offset + i] = low + span * ((words[i]! >>> 8) * 2 ** -24);
    });
    return out;
  }

  /**
   * Fills `out` with normal numbers by the Box–Muller transform. Elements 2k and 2k+1 are made from
   * words 2k and 2k+1: with `r = sqrt(-2 ln((word[2k] + 1) * 2^-32))` and
   * `a = 2π * word[2k+1] * 2^-32`, they are `mean + std * r * cos(a)` and `mean + std * r * sin(a)`.
   * Consumes `out.length` words, rounded up to even.
   *
   * Computed in float64 and rounded once. `log`, `cos` and `sin` are not specified to the last bit,
   * so unlike `uniform` this is the same on every machine only to about one unit in the last place.
   *
   * @param out Any number of elements; overwritten and returned.
   * @param mean Finite; 0 by default.
   * @param std Finite, not negative; 1 by default.
   * @throws {ArgumentError} If `out` is no Float32Array.
   * @throws {RangeError} If `mean` or `std` are not such numbers.
   */
  normal<T extends Float32Array>(out: T, mean = 0, std = 1): T {
    checkInstance("Random", "out", out, Float32Array);
    if (!Number.isFinite(mean) || !Number.isFinite(std) || std < 0) {
      throw new RangeError(
        `Random: normal needs a finite mean and std >= 0, got mean ${shown(mean)}, std ${
          shown(std)
        }`,
      );
    }
    // A chunk is an even number of words, so no pair is split between two of them.
    this.#eachChunk(out.length + out.length % 2, (words, count, offset) => {
      for (let i = 0; i < count; i += 2) {
        const radius = std * Math.sqrt(-2 * Math.log((words[i]! + 1) * 2 ** -32));
        const angle = 2 * Math.PI * (words[i + 1]! * 2 ** -32);
        out[offset + i] = mean + radius * Math.cos(angle);
        // One past the end for an odd length: a typed array ignores that write.
        out[offset + i + 1] = mean + radius * Math.sin(angle);
      }
    });
    return out;
  }

  /**
   * The integers 0..n-1 in random order, every order equally likely
   * ({@link https://pytorch.org/docs/stable/generated/torch.randperm.html | PyTorch's randperm}):
   * Fisher–Yates from the end, where element i (n-1 down to 1) is swapped with element
   * `below(i + 1)`.
   *
   * @param n Integer in 0..2^32-1, in practice bounded by memory (4n bytes).
   * @returns `n` elements.
   * @throws {RangeError} If `n` is not such an integer, or if there is no memory for it.
   */
  permutation(n: number): Uint32Array<ArrayBuffer> {
    checkInteger("permutation length", n, TWO_32 - 1);
    const order = new Uint32Array(n);
    for (let i = 0; i < n; i++) order[i] = i;
    for (let i = n - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const swapped = order[i]!;
      order[i] = order[j]!;
      order[j] = swapped;
    }
    return order;
  }

  /** Consumes `words` words and returns where they start. */
  #advance(words: number): number {
    const at = this.#position;
    this.position = at + words; // Throws beyond 2^53-1, where positions are no longer exact.
    return at;
  }

  /** Blocks `block`, `block + 1`, …: the only place that lays out counter and key. */
  #generate(out: Uint32Array, block: number, blocks: number): void {
    philoxBlocks(
      out,
      blocks,
      this.seed % TWO_32 | 0,
      Math.floor(this.seed / TWO_32),
      block % TWO_32 | 0,
      Math.floor(block / TWO_32),
      this.stream | 0,
      0,
    );
  }

  /**
   * Hands out the next `total` words in chunks: `use` gets an array whose first `count` elements
   * are words `offset`, `offset + 1`, … of them.
   */
  #eachChunk(
    total: number,
    use: (words: Uint32Array, count: number, offset: number) => void,
  ): void {
    const start = this.#advance(total);
    // The first chunk may start inside a block: room for one block more.
    const chunk = this.#chunk ??= new Uint32Array(CHUNK_WORDS + 4);
    for (let offset = 0; offset < total; offset += CHUNK_WORDS) {
      const count = Math.min(CHUNK_WORDS, total - offset);
      const at = start + offset;
      const skip = at % 4;
      this.#generate(chunk, Math.floor(at / 4), Math.ceil((skip + count) / 4));
      use(skip === 0 ? chunk : chunk.subarray(skip), count, offset);
    }
  }
}
