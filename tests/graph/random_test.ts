/**
 * Tests of the random numbers: the published known answers, the documented formulas word by word,
 * and enough statistics to catch a wrong formula. (Philox itself has published test batteries.)
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { philoxBlocks, Random } from "../../lib/graph/random.ts";

const MAX = 0xffffffff;

type Words = [number, number, number, number];
/** The block of a counter under a key. */
function philox4x32(counter: Words, key: [number, number]): number[] {
  const block = new Uint32Array(4);
  philoxBlocks(block, 1, ...key, ...counter);
  return [...block];
}

Deno.test("Philox4x32-10 gives the known answers of Random123", () => {
  assertEquals(
    philox4x32([0, 0, 0, 0], [0, 0]),
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  );
  assertEquals(
    philox4x32([MAX, MAX, MAX, MAX], [MAX, MAX]),
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  );
  assertEquals(
    philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  );
});

Deno.test("a generator's words are the blocks of counter (block, stream) under key seed", () => {
  const seed = Number.MAX_SAFE_INTEGER - 5;
  const random = new Random(seed, 7);
  const key: [number, number] = [MAX - 5, 2 ** 21 - 1];
  for (const block of [0, 1, 2]) {
    for (const word of philox4x32([block, 0, 7, 0], key)) assertEquals(random.nextUint32(), word);
  }
  random.position = 4 * 2 ** 32 - 4; // The block number's low word is about to overflow.
  const words = [...philox4x32([MAX, 0, 7, 0], key), ...philox4x32([0, 1, 7, 0], key)];
  for (const word of words) assertEquals(random.nextUint32(), word);
  random.position = 4 * 2 ** 32 - 4;
  const uniform = random.uniform(new Float32Array(8), 0, 1);
  assertEquals([...uniform], words.map((word) => (word >>> 8) / 2 ** 24));
});

Deno.test("uniform is the documented formula, from any position and across chunks", () => {
  for (const start of [0, 1, 2, 3, 2045]) {
    for (const length of [0, 1, 5, 2048, 2049, 5000]) {
      const bulk = new Random(3);
      bulk.position = start;
      const out = bulk.uniform(new Float32Array(length), -0.3, 0.7);
      assertEquals(bulk.position, start + length);
      const single = new Random(3);
      single.position = start;
      for (const value of out) {
        const unit = (single.nextUint32() >>> 8) * 2 ** -24;
        assertEquals(value, Math.fround(-0.3 + (0.7 - -0.3) * unit));
      }
    }
  }
});

Deno.test("uniform has the bits that numpy computes from the documented expression", () => {
  // python: words = 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 as a uint32 array;
  // (-0.1 + (0.1 - -0.1) * ((words >> 8) * 2.0**-24)).astype("float32").view("uint32")
  const out = new Random(0).uniform(new Float32Array(4), -0.1, 0.1);
  assertEquals([...new Uint32Array(out.buffer)], [0xbca56700, 0x3d9bdc6e, 0x3d41188d, 0x3cacd246]);
});

Deno.test("uniform numbers fill their interval evenly", () => {
  const out = new Random(11).uniform(new Float32Array(1_000_000), 2, 5);
  const bins = new Array<number>(10).fill(0);
  let sum = 0;
  for (const value of out) {
    assert(value >= 2 && value <= 5);
    sum += value;
    const bin = Math.min(9, Math.floor((value - 2) / 0.3));
    bins[bin] = bins[bin]! + 1;
  }
  // Six standard deviations: 0.866 / 1000 for the mean, 300 for a bin.
  assert(Math.abs(sum / out.length - 3.5) < 0.0052);
  for (const count of bins) assert(Math.abs(count - 100_000) < 1800, `a bin has ${count}`);
});

Deno.test("normal is the documented formula, and an odd length consumes a whole pair", () => {
  for (const length of [0, 1, 7, 2047, 2049, 4097]) {
    const bulk = new Random(5);
    bulk.position = 3;
    const out = bulk.normal(new Float32Array(length), 1, 2);
    assertEquals(bulk.position, 3 + length + length % 2);
    const single = new Random(5);
    single.position = 3;
    for (let i = 0; i < length; i += 2) {
      const radius = Math.sqrt(-2 * Math.log((single.nextUint32() + 1) * 2 ** -32));
      const angle = 2 * Math.PI * single.nextUint32() * 2 ** -32;
      assert(Math.abs(out[i]! - (1 + 2 * radius * Math.cos(angle))) < 1e-5);
      if (i + 1 < length) {
        assert(Math.abs(out[i + 1]! - (1 + 2 * radius * Math.sin(angle))) < 1e-5);
      }
    }
  }
});

Deno.test("normal numbers have the mean, variance, skewness and kurtosis of a normal", () => {
  const out = new Random(12).normal(new Float32Array(1_000_000));
  const moments = [0, 0, 0, 0];
  for (const value of out) {
    assert(Number.isFinite(value));
    for (let power = 1; power <= 4; power++) {
      moments[power - 1] = moments[power - 1]! + value ** power / out.length;
    }
  }
  // Six standard deviations of the estimates: sqrt(1, 2, 15, 96) / 1000.
  for (const [i, [expected, deviation]] of [[0, 1], [1, 2], [0, 15], [3, 96]].entries()) {
    const bound = 6 * Math.sqrt(deviation!) / 1000;
    assert(Math.abs(moments[i]! - expected!) < bound, `moment ${i + 1} is ${moments[i]}`);
  }
});

Deno.test("below gives every integer under its bound about equally often", () => {
  const random = new Random(13);
  const counts = new Array<number>(7).fill(0);
  for (let i = 0; i < 70_000; i++) {
    const value = random.below(7);
    counts[value] = counts[value]! + 1;
  }
  assertEquals(counts.length, 7);
  for (const count of counts) assert(Math.abs(count - 10_000) < 560, `a count is ${count}`);
  assertEquals(random.below(1), 0);
  // Above 2^31 about a quarter of the words must be drawn again, or low values come too often.
  const bound = 3 * 2 ** 30;
  let third = 0;
  const before = random.position;
  for (let i = 0; i < 30_000; i++) if (random.below(bound) < 2 ** 30) third++;
  assert(Math.abs(third - 10_000) < 500, `the lowest third came ${third} times`);
  const drawn = random.position - before;
  assert(Math.abs(drawn - 40_000) < 700, `${drawn} words drawn`);
});

Deno.test("a permutation holds every index once, and each place is equally likely", () => {
  for (const n of [0, 1, 2, 60_000]) {
    const sorted = new Random(n).permutation(n).sort();
    assertEquals(sorted.length, n);
    assert(sorted.every((value, i) => value === i));
  }
  const random = new Random(14);
  const counts = new Map<string, number>();
  for (let i = 0; i < 60_000; i++) {
    const order = random.permutation(3).join("");
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  assertEquals(counts.size, 6);
  for (const count of counts.values()) assert(Math.abs(count - 10_000) < 550);
});

Deno.test("a restored state goes on where the old generator stood, also through JSON", () => {
  const random = new Random(2 ** 53 - 1, MAX);
  random.nextUint32();
  random.uniform(new Float32Array(3001));
  random.normal(new Float32Array(5));
  const again = Random.fromState(JSON.parse(JSON.stringify(random.state)));
  assertEquals(again.state, random.state);
  assertEquals(again.permutation(100), random.permutation(100));
  assertEquals(again.uniform(new Float32Array(9)), random.uniform(new Float32Array(9)));
  // Going back works too, inside the block that is cached.
  const position = random.position;
  const word = random.nextUint32();
  random.position = position;
  assertEquals(random.nextUint32(), word);
});

Deno.test("seeds and streams, also those that differ only in their high bits, differ", () => {
  const firsts = new Set<number>();
  const states: [number, number][] = [[0, 0], [1, 0], [2 ** 32, 0], [2 ** 52, 0], [0, 1], [0, MAX]];
  for (const [seed, stream] of states) firsts.add(new Random(seed, stream).nextUint32());
  assertEquals(firsts.size, states.length);
});

Deno.test("seeds, streams, positions and bounds out of range are refused", () => {
  for (const bad of [-1, 0.5, NaN, Infinity, 2 ** 53]) {
    assertThrows(() => new Random(bad), RangeError, "seed");
    assertThrows(() => new Random(0, bad), RangeError, "stream");
    assertThrows(() => new Random(0).position = bad, RangeError, "position");
    assertThrows(() => new Random(0).below(bad), RangeError, "bound");
    assertThrows(() => new Random(0).permutation(bad), RangeError, "permutation");
  }
  assertThrows(() => new Random(0, 2 ** 32), RangeError, "stream");
  assertThrows(() => new Random(0).below(0), RangeError, "bound");
  const out = new Float32Array(1);
  for (const [low, high] of [[1, 0], [NaN, 1], [0, Infinity], [0, 1e39]] as const) {
    assertThrows(() => new Random(0).uniform(out, low, high), RangeError, "uniform");
  }
  for (const [mean, std] of [[NaN, 1], [0, -1], [0, Infinity]] as const) {
    assertThrows(() => new Random(0).normal(out, mean, std), RangeError, "normal");
  }
  const end = new Random(0);
  end.position = Number.MAX_SAFE_INTEGER;
  assertThrows(() => end.nextUint32(), RangeError, "position");
  assertEquals(end.position, Number.MAX_SAFE_INTEGER);
});
