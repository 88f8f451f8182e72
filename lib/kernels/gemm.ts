/**
 * The tiled kernels behind matrix products and convolutions (implicit GEMM: no im2col buffer).
 *
 * - {@link rowTile}: `out[m, n] = Σ_k A(m, k) B[k, n]`, where row m of A is a window of an image.
 * - {@link columnTile}: `out[m, n] = Σ_k A(k, m) B[k, n]`, the weight gradient's form, with the
 *   long sum over pixels split among workgroups.
 *
 * A matrix product is the case of a 1×1 window. A tile of rows × columns of the result stays in
 * registers; each lane loads some of A's vectors and hands them to the others by
 * `subgroupBroadcast` with a constant lane, or keeps all of them when it works alone. Tiles at the
 * edge are moved back inside and overlap their neighbours, which then write the same values.
 *
 * Sizes are no part of the WGSL but a uniform `z`, so that all layers share a few pipelines: one of
 * these takes a driver about half a second to compile.
 *
 * Dimension letters: N images, H×W source pixels, C source channels, P×Q result pixels, O columns;
 * O is a multiple of 4, and C as well, except for tiles in workgroup memory without layers or groups.
 *
 * @module
 */

import {
  arrays,
  type Finish,
  type KernelSpec,
  PLAIN,
  type Target,
  times,
  type Two,
} from "./kernel.ts";
import type { Tile } from "./choice.ts";
import { WORKGROUP_SIZES, workgroupColumns, workgroupRows } from "./gemm_workgroup.ts";

/** How windows of a `[N, H, W, C]` source line up with a `[N, P, Q]` grid of results. */
export interface Windows {
  readonly n: number;
  readonly h: number;
  readonly w: number;
  readonly c: number;
  readonly p: number;
  readonly q: number;
  /** Source pixels between neighbouring results. */
  readonly stride: Two;
  /** Source pixel of result (0, 0) under tap (0, 0). */
  readonly origin: Two;
  /** Taps of the window. */
  readonly taps: Two;
  /** Source pixels from a tap to the next; negative when they retreat (gradient). */
  readonly steps: Two;
}

/** WGSL of the place `at`, in a window whose taps are `dilation` apart. */
export const apart = (at: string, dilation: number, suffix = "") =>
  dilation === 1 ? at : `${at} * ${dilation}${suffix}`;

/** Whether result pixel m is source pixel m: then no window arithmetic is needed. */
function pointwise(x: Windows): boolean {
  return x.taps[0] * x.taps[1] === 1 && x.h === x.p && x.w === x.q &&
    x.stride.every((s) => s === 1) && x.origin.every((o) => o === 0);
}

/** A grid of tiles, n fastest so that neighbours share rows of A, and WGSL to find one's own. */
function tileGrid(tile: Tile, rows: number, columns: number, layers: number, target: Target) {
  const { lanes, vectors } = tile;
  const threads = tile.workgroup ? 1 : lanes > 1 ? lanes : 64;
  const across = Math.ceil(columns / (4 * vectors * lanes));
  const tiles = Math.ceil(rows / tile.rows) * across;
  const groups = Math.ceil(tiles * lanes / threads);
  const x = Math.min(groups, target.maxWorkgroups);
  // Lanes that hand values to each other have a workgroup to themselves. Then `tile` must not depend
  // on `local`: a shader compiler that checks refuses a broadcast after a return that might not be
  // every lane's.
  const tileOf = `(group.y * groups.x + group.x) * ${threads / lanes}u` +
    (threads > lanes ? ` + local / ${lanes}u` : "");
  const main = `@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let tile = ${tileOf};
  if (tile >= z.tiles) { return; }
  let lane = local % ${lanes}u;
  let m0 = ${inside(`tile / z.across * ${tile.rows}u`, "z.rows", tile.rows)};
  let n0 = ${inside(`(tile % z.across * ${lanes}u + lane) * ${vectors}u`, "z.o4", vectors)};
${declareSums(tile)}`;
  return {
    main,
    workgroups: [x, Math.ceil(groups / x), layers] as const,
    sizes: { tiles, across, rows, o4: columns / 4, ...tile.workgroup && WORKGROUP_SIZES },
  };
}

/** WGSL: `first`, moved back so that `count` places from it end before `end`, but not below 0. */
const inside = (first: string, end: string, count: number) =>
  `min(${first}, max(${end}, ${count}u) - ${count}u)`;

/** WGSL for the value that `lane` of the group holds in `name`. */
const broadcast = (tile: Tile, name: string, lane: number) =>
  tile.lanes > 1 ? `subgroupBroadcast(${name}, ${lane}u)` : name;

/**
 * Whether a lane's sums are an array that is also indexed by a variable, and so lies in memory. A
 * software adapter has no registers for many sums, and compiles twice as long to find some.
 */
const inArray = ({ rows, vectors }: Tile) => rows * vectors > 32;

/** WGSL of the sum for row i of the tile and vector v of the lane. */
const sum = (tile: Tile, i: number, v: number) =>
  inArray(tile) ? `sums[${i * tile.vectors + v}]` : `s${i}_${v}`;

/** WGSL that adds four products to a sum: their own sum first, which rounds less. */
function add(tile: Tile, i: number, v: number, term: (k: number) => string): string {
  const name = sum(tile, i, v);
  return `${name} += ${times(4, term, " + ")};`;
}

/** WGSL that declares the sums, all zero. */
function declareSums(tile: Tile): string {
  const { rows, vectors } = tile;
  if (inArray(tile)) return `  var sums: array<vec4f, ${rows * vectors}>;`;
  return times(rows, (i) => times(vectors, (v) => `  var s${i}_${v} = vec4f(0.0);`, ""));
}

/**
 * WGSL that stores the tile; `row` is the vector index of row `m` of the result, and `shift` what is
 * added to columns.
 */
function stores(tile: Tile, rows: number, row: string, shift: string, finish: Finish): string {
  const store = (m: string, value: (v: number) => string) =>
    `{ let m = ${m}; let row = ${row}; ${
      times(tile.vectors, (v) => finish.store(`row + n0 + ${v}u`, value(v), `_${v}`), " ")
    } }`;
  const load = times(tile.vectors, (v) => finish.load(`n0 + ${v}u${shift}`, `_${v}`), " ");
  if (inArray(tile)) {
    return `  ${load}
  for (var i = 0u; i < min(${tile.rows}u, z.rows - m0); i++)
  ${store("m0 + i", (v) => `sums[i * ${tile.vectors}u + ${v}u]`)}`;
  }
  const all = times(tile.rows, (i) => {
    const guard = rows < tile.rows ? `if (m0 + ${i}u < z.rows) ` : "";
    return `  ${guard}${store(`m0 + ${i}u`, (v) => sum(tile, i, v))}`;
  });
  return `  ${load}\n${all}`;
}

/** What {@link rowTile} needs besides the windows. */
export interface RowTile {
  /** Result columns; a multiple of 4. */
  readonly o: number;
  /** Independent products, one after the other in every buffer. */
  readonly layers?: number;
  /** Or independent ones of channels and columns that lie side by side in every row. */
  readonly groups?: number;
  /** Which taps of a kernel of `width` columns are used: from `first` on, every `step`-th. */
  readonly kernel?: { readonly width: number; readonly first: Two; readonly step: Two };
  /** Where result pixels go in an image of `size`: from `first` on, every `step`-th. */
  readonly scatter?: { readonly size: Two; readonly first: Two; readonly step: Two };
  /** Parts the sum over channels is split into, of a tile in workgroup memory; layers of the result. */
  readonly splits?: number;
  /** Whether the weights, of one tap, lie as `[layers, O, C]`. */
  readonly turned?: boolean;
}

/** WGSL of where layers, or groups, are in the operands and the result. */
interface Layout {
  /** Vectors of a source pixel. */
  readonly source: string;
  /** Vectors of a row of columns, in B and in the result. */
  readonly columns: string;
  /** What is added to the place in such a row. */
  readonly shift: string;
}

/** The {@link Layout} for groups, the `group`-th of which is computed. */
const sideBySide = (groups: number, group: string): Layout =>
  groups === 1
    ? { source: "z.c4", columns: "z.o4", shift: "" }
    : { source: "z.source4", columns: "z.columns4", shift: ` + ${group} * z.o4` };

/** The sizes that it reads. */
const layoutSizes = (groups: number, c: number, o: number) =>
  groups > 1 && { source4: groups * c / 4, columns4: groups * o / 4 };

/**
 * Bindings: source `[layers, N, H, W, C]`, weights `[layers, taps, C, O]`; result
 * `[layers, splits, pixels, O]`, to be summed over splits. With groups: `[N, H, W, groups × C]`,
 * `[taps, C, groups × O]` and `[splits, pixels, groups × O]`.
 */
export function rowTile(
  x: Windows,
  spec: RowTile,
  tile: Tile,
  target: Target,
  finish: Finish = PLAIN,
): KernelSpec {
  const { o, layers = 1, groups = 1, scatter, splits = 1, turned = false } = spec;
  const { width, first, step } = spec.kernel ??
    { width: x.taps[1], first: [0, 0], step: [1, 1] };
  const rows = x.n * x.p * x.q;
  // Few channels come in no whole vectors: a tile in workgroup memory reads its windows number by number.
  const narrow = x.c % 4 !== 0, length = x.c * x.taps[0] * x.taps[1];
  // Scattered results share their WGSL, however many taps there are.
  const simple = !scatter && !narrow && pointwise(x);
  const { main, workgroups, sizes } = tileGrid(tile, rows, o, layers * groups * splits, target);
  const layer = tile.workgroup ? "layer" : "group.z";
  const { source, columns, shift } = sideBySide(groups, layer);
  const image = groups > 1 ? `${layer} * z.c4` : `${layer} * z.image`;
  const across = x.steps[0] === x.steps[1] ? "direction" : "direction_across";
  const loads = Math.ceil(tile.rows / tile.lanes);
  // Per load: the row of A it is for. A row past the last reads pixel 0 and counts as zero.
  const row = (j: number) =>
    simple ? "" : `  let h_${j} = i32(m_${j} / z.q % z.p * z.sh) + i32(z.oh);
  let w_${j} = i32(m_${j} % z.q * z.sw) + i32(z.ow);
  let i_${j} = i32(m_${j} / (z.p * z.q) * z.h);`;
  const place = (j: number) =>
    simple
      ? `    let ok_${j} = in_${j}; let p_${j} = image + select(0u, m_${j} * ${source}, ok_${j});`
      : `    let y_${j} = h_${j} + i32(z.direction * r); let x_${j} = w_${j} + i32(z.${across} * s);
    let ok_${j} = in_${j} & (u32(y_${j}) < z.h) & (u32(x_${j}) < z.w);
    let p_${j} = image + select(0u, u32((i_${j} + y_${j}) * i32(z.w) + x_${j}) * ${source}, ok_${j});`;
  const contexts = times(
    loads,
    (j) =>
      `  let m_${j} = m0 + lane + ${j * tile.lanes}u; let in_${j} = m_${j} < z.rows;\n${row(j)}`,
  );
  /** First row of B for a tap. */
  const kernelRow = `${
    groups > 1 ? "" : `${layer} * z.taps * z.c\n      + `
  }((z.r0 + r * z.dr) * z.kernel_width + z.s0 + s * z.ds) * z.c`;
  /** The products of the rows whose vectors of A are in load j. */
  const products = (j: number) =>
    times(Math.min(tile.lanes, tile.rows), (lane) => {
      const i = j * tile.lanes + lane;
      return `      { let t = ${broadcast(tile, `a_${j}`, lane)};\n` +
        times(
          tile.vectors,
          (v) => `        ${add(tile, i, v, (k) => `t.${"xyzw"[k]} * b${k}_${v}`)}`,
        ) +
        " }";
    });
  const bLoads = (row: (k: number) => string) =>
    times(
      4,
      (k) => times(tile.vectors, (v) => `      let b${k}_${v} = w[${row(k)} + n0 + ${v}u];`),
    );
  /** Four columns of B, as they lie, become four rows. */
  const turnedLoads = times(
    tile.vectors,
    (v) =>
      times(
        4,
        (i) => `      let t${i}_${v} = w[(turned + 4u * (n0 + ${v}u) + ${i}u) * z.c4 + c];`,
      ) +
      "\n" +
      times(
        4,
        (k) => `      let b${k}_${v} = vec4f(${times(4, (i) => `t${i}_${v}.${"xyzw"[k]}`, ", ")});`,
      ),
  );

  const aLoad = (j: number) => `      let a_${j} = select(vec4f(0.0), x[p_${j} + c], ok_${j});`;
  // What order is fastest was measured: a load takes long while many sums are kept in registers.
  const interleave = (apart: boolean, b: string) =>
    apart
      ? `${b}\n${times(loads, (j) => `${aLoad(j)}\n${products(j)}`)}`
      : `${times(loads, aLoad)}\n${b}\n${times(loads, products)}`;

  const taps = `  for (var tap = 0u; tap < z.taps; tap++) {
    let r = tap / z.across_taps; let s = tap % z.across_taps;
${times(loads, place)}
    var k = (${kernelRow}) * ${columns}${shift};
    for (var c = 0u; c < z.c4; c++) {
${
    interleave(
      simple && !inArray(tile),
      turned ? turnedLoads : bLoads((k) => k === 0 ? "k" : `k + ${k}u * ${columns}`),
    )
  }
      k += 4u * ${columns};
    }
  }`;
  const pixel = scatter
    ? `((m / (z.p * z.q) * z.out_h + z.out_y + m / z.q % z.p * z.out_dy) * z.out_w
    + z.out_x + m % z.q * z.out_dx)`
    : groups === 1
    ? "(group.z * z.rows + m)"
    : tile.workgroup
    ? "(split * z.rows + m)"
    : "m";
  const result = `${pixel} * ${columns}${shift}`;
  return {
    bindings: arrays({ x: narrow ? "f32" : "vec4f", w: "vec4f", y: "vec4f" }),
    body: tile.workgroup
      ? workgroupRows({
        ...{ row, tap: place, kernel: kernelRow, result, image, columns, shift, finish, turned },
        narrow: narrow ? { down: "i32(z.direction)", across: `i32(z.${across})` } : undefined,
      })
      : `${main}
  let image = ${image};${turned ? " let turned = group.z * 4u * z.o4;" : ""}
${contexts}
${taps}
${stores(tile, rows, result, shift, finish)}
}`,
    sizes: {
      ...sizes,
      ...{ p: x.p, q: x.q, h: x.h, w: x.w, c: x.c },
      ...narrow ? { c4: Math.ceil(length / 4), length } : { c4: x.c / 4 },
      ...{ sh: x.stride[0], sw: x.stride[1], oh: x.origin[0], ow: x.origin[1] },
      ...{ taps: x.taps[0] * x.taps[1], across_taps: x.taps[1] },
      ...{ r0: first[0], s0: first[1], dr: step[0], ds: step[1], kernel_width: width },
      ...layoutSizes(groups, x.c, o),
      direction: x.steps[0],
      ...across !== "direction" && { [across]: x.steps[1] },
      image: x.n * x.h * x.w * x.c / (narrow ? 1 : 4),
      ...tile.workgroup &&
        { splits, each: Math.ceil((narrow ? length : x.c) / 4 / splits / 4) * 4 },
      ...scatter && {
        ...{ out_h: scatter.size[0], out_y: scatter.first[0], out_dy: scatter.step[0] },
        ...{ out_w: scatter.size[1], out_x: scatter.first[1], out_dx: scatter.step[1] },
      },
    },
    workgroups,
    subgroups: tile.lanes > 1,
    flops: 2 * rows * o * x.c * x.taps[0] * x.taps[1] * layers * groups,
  };
}

/** What {@link columnTile} needs besides the windows. */
export interface ColumnTile {
  /** Result columns; a multiple of 4. */
  readonly o: number;
  /** Parts the sum over pixels is split into; each is a layer of the result. */
  readonly splits: number;
  /** Independent products, one after the other in every buffer. */
  readonly layers?: number;
  /** Or independent ones of channels and columns that lie side by side in every row. */
  readonly groups?: number;
}

/**
 * Bindings: source `[layers, N, H, W, C]`, gradient `[layers, N, P, Q, O]`; result
 * `[layers, splits, taps × C, O]`, to be summed over splits. With groups: `[N, H, W, groups × C]`,
 * `[N, P, Q, groups × O]` and `[splits, taps × C, groups × O]`.
 */
export function columnTile(x: Windows, spec: ColumnTile, tile: Tile, target: Target): KernelSpec {
  const { o, splits, layers = 1, groups = 1 } = spec,
    { source, columns, shift } = sideBySide(
      groups,
      "layer",
    );
  const rows = x.taps[0] * x.taps[1] * x.c, pixels = x.n * x.p * x.q;
  const narrow = x.c % 4 !== 0, simple = !narrow && pointwise(x);
  const { main, workgroups, sizes } = tileGrid(tile, rows, o, layers * groups * splits, target);
  // A step takes 4 pixels × the tile's rows, of which one load brings four.
  const perPixel = tile.rows / 4;
  const loads = Math.ceil(4 * perPixel / tile.lanes);
  const dilated = x.steps.some((step) => step !== 1);
  const spread = dilated ? [" * i32(z.step_down)", " * i32(z.step_across)"] : ["", ""];
  /** Channel vector and tap of vector `m_j` of A's columns. */
  const column = (j: number | "v") =>
    `  let c_${j} = m_${j} % z.c4;
  let r_${j} = i32(m_${j} / z.c4 / z.across_taps)${spread[0]} + i32(z.oh);
  let t_${j} = i32(m_${j} / z.c4 % z.across_taps)${spread[1]} + i32(z.ow);`;
  const contexts = times(
    loads,
    (j) =>
      `  let e_${j} = lane + ${j * tile.lanes}u; let k_${j} = e_${j} % 4u;
  let m_${j} = min(m0 / 4u + e_${j} / 4u, z.rows / 4u - 1u);\n${column(j)}`,
  );
  /** Where load j finds pixel `at_j` under the tap of column `of`. */
  const place = (j: number, of: number | "v") =>
    simple
      ? `    let ok_${j} = at_${j} < end; let p_${j} = image + select(0u, at_${j} * ${source}, ok_${j});`
      : `    let h_${j} = i32(at_${j} / z.q % z.p * z.sh) + r_${of};
    let w_${j} = i32(at_${j} % z.q * z.sw) + t_${of};
    let ok_${j} = (at_${j} < end) & (u32(h_${j}) < z.h) & (u32(w_${j}) < z.w);
    let row_${j} = i32(at_${j} / (z.p * z.q) * z.h) + h_${j};
    let p_${j} = image + select(0u, u32(row_${j} * i32(z.w) + w_${j}) * ${source}, ok_${j});`;
  const aLoad = (j: number) =>
    `    let at_${j} = k + k_${j};
${place(j, j)}
    let a_${j} = select(vec4f(0.0), x[p_${j} + c_${j}], ok_${j});`;
  const first = groups > 1 ? "" : "layer * z.pixels + ";
  const image = groups > 1 ? "layer * z.c4" : "layer * z.image";
  const result = `(${groups > 1 ? "split" : "group.z"} * z.rows + m) * ${columns}${shift}`;
  const bLoads = times(
    4,
    (k) =>
      `    let q${k} = (${first}min(k + ${k}u, z.pixels - 1u)) * ${columns}${shift} + n0;\n` +
      times(tile.vectors, (v) => `    let b${k}_${v} = g[q${k} + ${v}u];`),
  );
  /** Which element that is loaded holds A at pixel k of the step, row i of the tile. */
  const element = (k: number, i: number) => Math.floor(i / 4) * 4 + k;
  const a = (k: number, i: number) => `t${element(k, i)}.${"xyzw"[i % 4]}`;
  const inLoad = (j: number, e: number) => Math.floor(e / tile.lanes) === j;
  /** Load j of A and the products of the rows that it completes. */
  const steps = times(loads, (j) => {
    const elements = Array.from({ length: 4 * perPixel }, (_, e) => e).filter((e) => inLoad(j, e));
    const rows = Array.from({ length: tile.rows }, (_, i) => i)
      .filter((i) => inLoad(j, element(3, i)));
    return [
      aLoad(j),
      ...elements.map((e) => `    let t${e} = ${broadcast(tile, `a_${j}`, e % tile.lanes)};`),
      ...rows.map((i) =>
        times(
          tile.vectors,
          (v) => `    ${add(tile, i, v, (k) => `${a(k, i)} * b${k}_${v}`)}`,
        )
      ),
    ].join("\n");
  });
  return {
    bindings: arrays({ x: narrow ? "f32" : "vec4f", g: "vec4f", y: "vec4f" }),
    body: tile.workgroup
      ? workgroupColumns({
        ...{ column: column("v"), simple, source: narrow ? "z.c" : source },
        narrow: narrow
          ? {
            down: dilated ? "i32(z.step_down)" : "1",
            across: dilated ? "i32(z.step_across)" : "1",
          }
          : undefined,
        ...{ first, result, image, columns, shift, finish: PLAIN },
      })
      : `${main}
  let split = group.z % z.splits; let layer = group.z / z.splits;
  let end = min((split + 1u) * z.each, z.pixels);
  let image = ${image};
${contexts}
  for (var k = split * z.each; k < end; k += 4u) {
${bLoads}
${steps}
  }
${stores(tile, rows, result, shift, PLAIN)}
}`,
    sizes: {
      ...sizes,
      ...{ p: x.p, q: x.q, h: x.h, w: x.w, pixels },
      ...narrow ? { c: x.c } : { c4: x.c / 4 },
      ...{ sh: x.stride[0], sw: x.stride[1], oh: x.origin[0], ow: x.origin[1] },
      across_taps: x.taps[1],
      ...layoutSizes(groups, x.c, o),
      ...dilated && { step_down: x.steps[0], step_across: x.steps[1] },
      ...{ splits, each: Math.ceil(pixels / splits / 4) * 4 },
      image: x.n * x.h * x.w * x.c / (narrow ? 1 : 4),
    },
    workgroups,
    subgroups: tile.lanes > 1,
    flops: 2 * rows * o * pixels * layers * groups,
  };
}
