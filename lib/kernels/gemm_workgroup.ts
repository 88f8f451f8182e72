/**
 * The tiles of `gemm.ts` for GPUs: a workgroup loads a block of each operand into its own memory,
 * and from there every element is used by eight threads. Each of the 8×8 threads keeps 8 rows × 2
 * vectors of the 64×64 result. Pieces outside the operands count as zero; results outside are not
 * stored. Bindings, sizes and dimension letters are those of `gemm.ts`.
 *
 * The more of the instructions are multiply-adds, the faster. So both blocks lie by steps of the
 * inner axis, four neighbouring rows or columns to a vector: a step reads four vectors for 64
 * multiply-adds. And the blocks are arrays of arrays, whose inner indices are constants or the same
 * in all steps: a shader compiler adds a check to each index that it does not know, and constant
 * ones cost nothing.
 *
 * @module
 */

import { type Finish, times } from "./kernel.ts";

/** Rows of a thread, and its vectors, which lie 8 apart so that neighbours read neighbours. */
const ROWS = 8, VECTORS = 2;
/** Elements of the inner axis that are in memory at a time, and how many a turn of the loop takes. */
const INNER = 16, TURN = 4;

/**
 * What the kernels need among their sizes. The inner loop's length is one of them so that no driver
 * unrolls it: that is large enough as it is.
 */
export const WORKGROUP_SIZES: Readonly<Record<string, number>> = { turns: INNER / TURN };

/** WGSL of the entry point up to the loop: where this workgroup and this thread are. */
const main = (contexts: string) =>
  `// Four times four steps; four rows each in 8 pairs of vectors, four columns each in twice 8.
var<workgroup> block_a: array<array<array<array<vec4f, 2>, 8>, 4>, 4>;
var<workgroup> block_b: array<array<array<array<vec4f, 8>, 2>, 4>, 4>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let tile = group.y * groups.x + group.x;
  if (tile >= z.tiles) { return; }
  let split = group.z % z.splits; let layer = group.z / z.splits;
  let m0 = tile / z.across * 64u; let n0 = tile % z.across * 16u;
  let row_pair = local / 8u; let column = local % 8u;
  // Of B, a thread loads every fourth row; of A by columns, four neighbours.
  let b_row = local / 16u; let b_half = local / 8u % 2u;
  let b_column = n0 + local % 16u; let b_in = b_column < z.o4;
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

/** WGSL that fills block B from row `row` of the operand on, of which `left` rows are inside. */
const loadB = (name: string, { columns }: Given, row: string, left: string) =>
  times(4, (j) =>
    `    { let ok = b_in & (i32(b_row) < ${left} - ${4 * j});
      block_b[${j}][b_row][b_half][column] = select(
        vec4f(0.0), ${name}[select(0u, b_at + (${row} + ${4 * j}u) * ${columns}, ok)], ok); }`);

/** WGSL of what {@link loadB} needs. */
const startB = ({ columns, shift }: Given) => `  let b_at = b_row * ${columns}${shift} + b_column;`;

/** WGSL of the same where B lies turned: as of A, a thread turns a vector each of four columns. */
const START_TURNED = `  let t_column = n0 + local / 4u; let t_in = t_column < z.o4;
  let t_half = local / 32u; let t_at = local / 4u % 8u;
  let b_at = 4u * (layer * z.o4 + t_column) * z.c4 + part;`;
const LOAD_TURNED = `      let t_ok = t_in & inside;
${
  times(4, (j) =>
    `      let b${j} = select(vec4f(0.0), w[select(0u, b_at + ${j}u * z.c4 + c, t_ok)], t_ok);`)
}
${
  times(4, (k) =>
    `      block_b[part][${k}][t_half][t_at] = vec4f(${
      times(4, (j) =>
        `b${j}.${"xyzw"[k]}`, ", ")
    });`)
}
`;

/** WGSL that multiplies the blocks and adds the products to the sums, one after the other. */
const PRODUCTS = `    workgroupBarrier();
    for (var turn = 0u; turn < z.turns; turn++) {
${
  times(TURN, (k) =>
    `      { let a_0 = block_a[turn][${k}][row_pair][0]; let a_1 = block_a[turn][${k}][row_pair][1];
${
      times(
        VECTORS,
        (v) =>
          `        let b_${v} = block_b[turn][${k}][${v}][column];`,
      )
    }
${
      times(ROWS, (i) =>
        times(VECTORS, (v) => {
          const a = `a_${Math.floor(i / 4)}.${"xyzw"[i % 4]}`;
          return `        s${i}_${v} = fma(vec4f(${a}), b_${v}, s${i}_${v});`;
        }))
    } }`)
}
    }
    workgroupBarrier();`;

/** WGSL that stores a thread's results. */
const stores = ({ result, shift, finish }: Given) =>
  times(VECTORS, (v) => finish.load(`min(n0 + column + ${8 * v}u, z.o4 - 1u)${shift}`, `_${v}`)) +
  "\n" +
  times(ROWS, (i) =>
    `  if (m0 + 8u * row_pair + ${i}u < z.rows) {
    let m = m0 + 8u * row_pair + ${i}u; let row = ${result} + n0 + column;
${
      times(VECTORS, (v) =>
        `    if (n0 + column + ${8 * v}u < z.o4) { ${
          finish.store(`row + ${8 * v}u`, `s${i}_${v}`, `_${v}`)
        } }`)
    }
  }`);

/**
 * WGSL of where element `e` of a vector of A is in a window, for channels that come in no whole vectors:
 * `in_e` whether it is there, `y_e` and `x_e` its pixel, `by_e` its place from that of the first one.
 */
const narrowTap = (e: number, k: string, inside: string, down: string, across: string) =>
  `    let k_${e} = ${k} + ${e}u; let in_${e} = ${inside.replace("K", `k_${e}`)};
    let tap_${e} = k_${e} / z.c; let r_${e} = tap_${e} / z.across_taps;
    let y_${e} = i32(r_${e}) * ${down};
    let x_${e} = i32(tap_${e} - r_${e} * z.across_taps) * ${across};
    let by_${e} = (y_${e} * i32(z.w) + x_${e}) * i32(z.c) + i32(k_${e} - tap_${e} * z.c);`;

/** WGSL of four numbers, of which each is 0 where it is not `ok`. */
const four = (number: (i: number) => { at: string; ok: string }, name: string) =>
  times(4, (i) => {
    const { at, ok } = number(i);
    return `      let ${name}ok${i} = ${ok};
      let ${name}${i} = select(0.0, x[select(0u, u32(${at}), ${name}ok${i})], ${name}ok${i});`;
  });

/** How windows of few channels are read, element by element: WGSL of the steps between taps. */
export interface Narrow {
  readonly down: string;
  readonly across: string;
}

/**
 * `out[m, n] = Σ_k A(m, k) B[k, n]` over the channels of a part, or over the elements of windows of few
 * channels. The WGSL given: `row` defines the window of row `m_j` of A for load j, `tap` then `ok_j` and
 * `p_j` once the tap is known, `kernel` is the first row of B for a tap.
 */
export function workgroupRows(
  given: Given & {
    row: (j: number) => string;
    tap: (j: number) => string;
    kernel: string;
    narrow: Narrow | undefined;
    turned: boolean;
  },
): string {
  const { row, tap, kernel, narrow, turned } = given;
  // A thread turns four rows of a vector each into four steps of four rows.
  const contexts = times(
    4,
    (j) =>
      `  let m_${j} = m0 + local / 4u * 4u + ${j}u; let ${
        narrow ? "row_" : ""
      }in_${j} = m_${j} < z.rows;\n${row(j)}`,
  );
  const begin = `${main(contexts)}
  let image = ${given.image}; let part = local % 4u; let a_half = local / 4u % 2u;
${turned ? START_TURNED : startB(given)}
  let end = min((split + 1u) * z.each, z.c4);`;
  const loop = (fill: string, first: string, left: string) =>
    `    for (var c = split * z.each; c < end; c += ${INNER / 4}u) {
    { let inside = c + part < end;
${fill}
${turned ? LOAD_TURNED : ""}    }
${turned ? "" : loadB("w", given, first, left)}
${PRODUCTS}
    }`;
  if (narrow) {
    const { down, across } = narrow;
    const fill = times(4, (e) =>
      narrowTap(e, "4u * (c + part)", "inside & (K < z.length)", down, across)) +
      "\n" +
      times(4, (e) =>
        four((j) => ({
          at: `base_${j} + by_${e}`,
          ok: `in_${e} & row_in_${j} & (u32(h_${j} + y_${e}) < z.h) & (u32(w_${j} + x_${e}) < z.w)`,
        }), `a${e}_`) + `
      block_a[part][${e}][row_pair][a_half] = vec4f(${times(4, (j) => `a${e}_${j}`, ", ")});`);
    return `${begin}
${
      times(4, (j) =>
        `  let base_${j} = i32(image) + ((i_${j} + h_${j}) * i32(z.w) + w_${j}) * i32(z.c);`)
    }
${loop(fill, "4u * c", "i32(min(4u * end, z.length)) - i32(4u * c)")}
${stores(given)}
}`;
  }
  const fill = times(4, (j) =>
    `      let ok${j} = ok_${j} & inside;
      let a${j} = select(vec4f(0.0), x[p_${j} + select(0u, c + part, ok${j})], ok${j});`) +
    "\n" +
    times(
      4,
      (k) =>
        `      block_a[part][${k}][row_pair][a_half] = vec4f(${
          times(4, (j) => `a${j}.${"xyzw"[k]}`, ", ")
        });`,
    );
  return `${begin}
  for (var tap = 0u; tap < z.taps; tap++) {
    let r = tap / z.across_taps; let s = tap % z.across_taps;
${times(4, tap)}
    let kernel = ${kernel};
${loop(fill, "kernel + 4u * c", "4 * i32(end - c)")}
  }
${stores(given)}
}`;
}

/**
 * WGSL of the pixel of the source that is `right` and `down` of `at`, of which lines and images take
 * places on `by` vectors: to the right within a line, then at the start of the next one, or of the next
 * image. Pixels are those under the first tap, without padding; `at` has column, line and place.
 */
const onward = (source: string) =>
  `fn onward(at: vec3i, right: u32, down: u32, by: u32) -> vec3i {
  let wide = i32(z.q * z.sw); let tall = i32(z.p * z.sh);
  let w = at.x + i32(right); let over = w >= wide;
  let h = at.y + i32(down) + select(0, i32(z.sh), over); let past = h >= tall;
  let line = (i32(z.sh * z.w) - wide) * i32(${source});
  let image = (i32(z.h) - tall) * i32(z.w * ${source});
  return vec3i(
    select(w, w - wide, over),
    select(h, h - tall, past),
    at.z + i32(by) + select(0, line, over) + select(0, image, past));
}
`;

/**
 * `out[m, n] = Σ_k A(k, m) B[k, n]` over the pixels k of a part. The WGSL given: `column` is what is known
 * of the vector `m_v` of A's columns, `source` the vectors of a pixel, `first` is added to the pixels of
 * B. With windows, not `simple`, a thread divides once to find its pixel, and then goes {@link onward}.
 */
export function workgroupColumns(
  given: Given & {
    column: string;
    simple: boolean;
    source: string;
    first: string;
    narrow: Narrow | undefined;
  },
): string {
  const { column, simple, source, first, narrow } = given;
  const contexts = `  let m_v = m0 / 4u + local % 16u;\n` +
    (narrow
      ? `  let c_v = 0u; let r_v = i32(z.oh); let t_v = i32(z.ow);\n` +
        times(4, (e) => narrowTap(e, "4u * m_v", "K < z.rows", narrow.down, narrow.across))
      : `  let column_in = m_v < z.rows / 4u;\n${column}`);
  // Of A, a thread loads four neighbouring pixels.
  const begin = simple
    ? `  let a_at = image + c_v + 4u * b_row * ${source};`
    : `  let pixel = split * z.each + 4u * b_row; let pixel_line = pixel / z.q;
  let pixel_n = pixel_line / z.p; let pixel_h = (pixel_line - pixel_n * z.p) * z.sh;
  let pixel_w = (pixel - pixel_line * z.q) * z.sw;
  var at_0 = vec3i(i32(pixel_w), i32(pixel_h), i32(image + c_v) + i32(${source}) *
    ((i32(pixel_n * z.h + pixel_h) + r_v) * i32(z.w) + i32(pixel_w) + t_v));
  let right = ${INNER}u % z.q * z.sw; let down = ${INNER}u / z.q % z.p * z.sh;
  let by = ((${INNER}u / z.q / z.p * z.h + down) * z.w + right) * ${source};`;
  /** Loads vector j, the elements of which are at `at`, where `ok`. */
  const fill = (j: number, value: string) => `    block_a[b_row][${j}][a_pair][a_half] = ${value};`;
  const load = (j: number) => {
    const inside = `(i32(4u * b_row) < left - ${j})`;
    const next = `    let at_${j} = onward(at_${j - 1}, z.sw, 0u, z.sw * ${source});\n`;
    const walk = simple || j === 0 ? "" : next;
    const within = (axis: string, size: string) => `(u32(at_${j}.${axis}) < z.${size})`;
    if (narrow) {
      return walk + four((e) => ({
        at: `at_${j}.z + by_${e}`,
        ok: `${inside} & in_${e} & ${within(`y + r_v + y_${e}`, "h")} &
        ${within(`x + t_v + x_${e}`, "w")}`,
      }), `a${j}_`) + "\n" + fill(j, `vec4f(${times(4, (e) => `a${j}_${e}`, ", ")})`);
    }
    const windows = simple ? "" : ` & ${within("y + r_v", "h")} & ${within("x + t_v", "w")}`;
    const place = simple ? `a_at + (start + ${j}u) * ${source}` : `u32(at_${j}.z)`;
    return `${walk}    let ok_${j} = column_in & ${inside}${windows};
${fill(j, `select(vec4f(0.0), x[select(0u, ${place}, ok_${j})], ok_${j})`)}`;
  };
  return `${simple ? "" : onward(source)}${main(contexts)}
  let end = min((split + 1u) * z.each, z.pixels);
  let image = ${given.image}; let a_pair = column / 2u + 4u * b_half; let a_half = column % 2u;
${begin}
${startB(given)}
  for (var start = split * z.each; start < end; start += ${INNER}u) {
    let left = i32(end - start);
${times(4, load)}
${loadB("g", given, `${first}start`, "left")}
${PRODUCTS}${simple ? "" : "\n    at_0 = onward(at_0, right, down, by);"}
  }
${stores(given)}
}`;
}
