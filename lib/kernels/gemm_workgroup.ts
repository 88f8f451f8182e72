/**
 * The tiles of `gemm.ts` for GPUs: a workgroup loads a block of each operand into its own memory,
 * and from there every element is used by eight threads. Each of the 8×8 threads keeps 8 rows × 2
 * vectors of the 64×64 result. Pieces outside the operands count as zero; results outside are not
 * stored. Bindings, sizes and dimension letters are those of `gemm.ts`.
 *
 * @module
 */

import { type Finish, times } from "./kernel.ts";

/** Rows of a thread, and its vectors, which lie 8 apart so that neighbours read neighbours. */
const ROWS = 8, VECTORS = 2;
/** Elements of the inner axis that are in memory at a time. */
const INNER = 16;

/**
 * What the kernels need among their sizes. The inner loop's length is one of them so that no driver
 * unrolls it: that is large enough as it is.
 */
export const WORKGROUP_SIZES: Readonly<Record<string, number>> = { inner: INNER };

/** WGSL of the entry point up to the loop: where this workgroup and this thread are. */
const main = (contexts: string) =>
  `var<workgroup> block_a: array<vec4f, 256>;
var<workgroup> block_b: array<vec4f, 256>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let tile = group.y * groups.x + group.x;
  if (tile >= z.tiles) { return; }
  let m0 = tile / z.across * 64u; let n0 = tile % z.across * 16u;
  let first = local / 8u * 8u; let column = local % 8u;
  // Of B, a thread loads every fourth row.
  let b_row = local / 16u; let b_column = n0 + local % 16u; let b_in = b_column < z.o4;
${times(ROWS, (i) => times(VECTORS, (v) => `  var s${i}_${v} = vec4f(0.0);`, ""))}
${contexts}`;

/**
 * WGSL that both kernels are given: the vector index of row `m` of the result, of the layer's source,
 * and of rows.
 */
interface Given {
  readonly result: string;
  readonly image: string;
  /** Vectors of a row of B, and what is added to the place in it. */
  readonly columns: string;
  readonly shift: string;
  /** What is done with the results. */
  readonly finish: Finish;
}

/** WGSL that fills block B: row `row(k)` of the operand, where `inside(k)`. */
const loadB = (
  name: string,
  { columns, shift }: Given,
  row: (k: string) => string,
  inside: (k: string) => string,
) =>
  times(4, (j) =>
    `    { let k = b_row + ${4 * j}u; let ok = b_in & (${inside("k")});
      block_b[local + ${64 * j}u] = select(vec4f(0.0), ${name}[select(0u, ${
      row("k")
    } * ${columns}${shift} + b_column, ok)], ok); }`);

/** WGSL that stores a thread's results. */
const stores = ({ result, shift, finish }: Given) =>
  times(VECTORS, (v) => finish.load(`min(n0 + column + ${8 * v}u, z.o4 - 1u)${shift}`, `_${v}`)) +
  "\n" +
  times(ROWS, (i) =>
    `  if (m0 + first + ${i}u < z.rows) {
    let m = m0 + first + ${i}u; let row = ${result} + n0 + column;
${
      times(VECTORS, (v) =>
        `    if (n0 + column + ${8 * v}u < z.o4) { ${
          finish.store(`row + ${8 * v}u`, `s${i}_${v}`, `_${v}`)
        } }`)
    }
  }`);

/**
 * `out[m, n] = Σ_k A(m, k) B[k, n]`. The WGSL given: `contexts` defines `ok_j` and `p_j` of load j for
 * the row `m_j` of A once `tap` is known, `kernel` is the first row of B for a tap.
 */
export function workgroupRows(
  given: Given & {
    row: (j: number) => string;
    tap: (j: number) => string;
    kernel: string;
  },
): string {
  const { row, tap, kernel } = given;
  const contexts = times(
    4,
    (j) => `  let m_${j} = m0 + local / 4u + ${16 * j}u; let in_${j} = m_${j} < z.rows;\n${row(j)}`,
  );
  return `${main(contexts)}
  let image = ${given.image}; let part = local % 4u;
  for (var tap = 0u; tap < z.taps; tap++) {
    let r = tap / z.across_taps; let s = tap % z.across_taps;
${times(4, tap)}
    let kernel = ${kernel};
    for (var c = 0u; c < z.c4; c += ${INNER / 4}u) {
${
    times(4, (j) =>
      `    { let ok = ok_${j} & (c + part < z.c4);
      block_a[local + ${
        64 * j
      }u] = select(vec4f(0.0), x[p_${j} + select(0u, c + part, ok)], ok); }`)
  }
${loadB("w", given, (k) => `(kernel + 4u * c + ${k})`, (k) => `4u * c + ${k} < z.c`)}
      workgroupBarrier();
      for (var q = 0u; q < z.inner / 4u; q++) {
${
    times(4, (k) =>
      times(VECTORS, (v) =>
        `        let b${k}_${v} = block_b[(4u * q + ${k}u) * 16u + column + ${8 * v}u];`))
  }
${
    times(ROWS, (i) =>
      `        { let a = block_a[(first + ${i}u) * 4u + q];
${
        times(VECTORS, (v) =>
          `          s${i}_${v} += a.x * b0_${v} + a.y * b1_${v} + a.z * b2_${v} + a.w * b3_${v};`)
      } }`)
  }
      }
      workgroupBarrier();
    }
  }
${stores(given)}
}`;
}

/**
 * `out[m, n] = Σ_k A(k, m) B[k, n]` over the pixels k of a part. The WGSL given: `column` is what load j
 * needs to know of the vector `m_v` of A's columns, `load` defines `ok_j` and `p_j` for pixel `at_j`,
 * `first` is added to the pixels of B.
 */
export function workgroupColumns(
  given: Given & { column: string; load: (j: number) => string; first: string },
): string {
  const { column, load, first } = given;
  const contexts =
    `  let m_v = m0 / 4u + local % 16u; let column_in = m_v < z.rows / 4u;\n${column}`;
  return `${main(contexts)}
  let split = group.z % z.splits; let layer = group.z / z.splits;
  let end = min((split + 1u) * z.each, z.pixels);
  let image = ${given.image};
  for (var start = split * z.each; start < end; start += ${INNER}u) {
${
    times(4, (j) =>
      `    let at_${j} = start + local / 16u + ${4 * j}u;
${load(j)}
    { let ok = ok_${j} & column_in;
      block_a[local + ${64 * j}u] = select(vec4f(0.0), x[p_${j} + select(0u, c_v, ok)], ok); }`)
  }
${loadB("g", given, (k) => `(${first}start + ${k})`, (k) => `start + ${k} < end`)}
    workgroupBarrier();
    for (var k = 0u; k < z.inner; k++) {
${times(VECTORS, (v) => `      let b_${v} = block_b[k * 16u + column + ${8 * v}u];`)}
${
    times(ROWS / 4, (h) =>
      `      { let a = block_a[k * 16u + first / 4u + ${h}u];
${times(4, (i) => times(VECTORS, (v) => `        s${4 * h + i}_${v} += a[${i}] * b_${v};`))} }`)
  }
    }
    workgroupBarrier();
  }
${stores(given)}
}`;
}
