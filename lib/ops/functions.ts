/**
 * Functions in WGSL, over vectors of numbers `T` with bits `U`, where WGSL has none or none that is
 * exact enough: its own may be off by 2⁻¹¹ (`sin`), and by a part in 20,000 (`log` near 1). Polynomials
 * are least-squares fits whose largest errors were made equal; all results are within 2e-7 of the
 * exact ones, relative to the larger of those and 1.
 *
 * @module
 */

/** A polynomial in `x`, coefficients of the lowest power first. */
function polynomial(x: string, coefficients: readonly number[]): string {
  return coefficients.reduceRight(
    (inner, c) => inner ? `(T(${c}) + ${x} * ${inner})` : `T(${c})`,
    "",
  );
}

/**
 * `logOf(x)`, by x = 2ᵏ m with m between √½ and √2, and log m = 2 artanh((m - 1) / (m + 1)). What is
 * no positive number is told by its bits: drivers differ in the logarithm of 0.
 */
export const LOG = `fn logOf(x: T) -> T {
  let tiny = bitcast<U>(x) < U(0x00800000u);
  let bits = bitcast<U>(select(x, x * T(8388608.0), tiny));
  let moved = bits + U(0x3f800000u - 0x3f3504f3u);
  let k = T(moved >> U(23u)) - select(T(127.0), T(150.0), tiny);
  let m = bitcast<T>((moved & U(0x7fffffu)) + U(0x3f3504f3u));
  let s = (m - T(1.0)) / (m + T(1.0)); let z = s * s;
  let y = k * T(0.693145751953125) + (k * T(1.42860677e-6) + T(2.0) * s +
    s * z * ${polynomial("z", [2 / 3, 2 / 5, 2 / 7, 2 / 9, 2 / 11])});
  let special = select(
    select(U(0x7fc00000u) | (bits & U(0u)), bits, (bits & U(0x7f800000u)) == U(0x7f800000u)),
    U(0xff800000u) | (bits & U(0u)),
    (bits & U(0x7fffffffu)) == U(0u),
  );
  let none = (bits >= U(0x7f800000u)) | (bits == U(0u));
  let minus = bits == U(0xff800000u);
  return select(y, bitcast<T>(select(special, U(0x7fc00000u) | (bits & U(0u)), minus)), none);
}`;

/**
 * `powOf(x, y)`: of a negative x, powers with whole y; anything to the power of 0 is 1, and 1 to any
 * power, infinity and NaN too. Needs LOG.
 */
export const POW = `fn powOf(x: T, y: T) -> T {
  let size = exp(y * logOf(abs(x)));
  let odd = y - T(2.0) * floor(y * T(0.5)) == T(1.0);
  let below = (bitcast<U>(x) >> U(31u)) == U(1u);
  let z = select(size, -size, below & odd);
  let none = (x < T(0.0)) & (abs(x) <= T(3.4028234e38)) & (floor(y) != y);
  return select(select(z, logOf(x), none), T(1.0), (y == T(0.0)) | (x == T(1.0)));
}`;

/** `expm1Of(x)`: eˣ - 1, also where eˣ is nearly 1. */
export const EXPM1 = `fn expm1Of(x: T) -> T {
  let near = x * ${polynomial("x", [1, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720])};
  return select(exp(x) - T(1.0), near, abs(x) < T(0.25));
}`;

/** `log1pOf(x)` for x from 0 to 1: log(1 + x) = 2 artanh(x / (2 + x)). */
export const LOG1P = `fn log1pOf(x: T) -> T {
  let s = x / (x + T(2.0)); let z = s * s;
  return T(2.0) * s * ${polynomial("z", [1, 3, 5, 7, 9, 11, 13, 15].map((n) => 1 / n))};
}`;

/** `tanhOf(x)`. */
export const TANH = `fn tanhOf(x: T) -> T {
  let z = x * x;
  let near = x + x * z * ${
  polynomial("z", [-0.33333284, 0.13331491, -0.053743497, 0.020650579, -0.005717037])
};
  let far = T(1.0) - T(2.0) / (exp(T(2.0) * abs(x)) + T(1.0));
  return select(select(far, -far, x < T(0.0)), near, abs(x) < T(0.625));
}`;

/** `erfOf(x)`. */
export const ERF = `fn erfOf(x: T) -> T {
  let z = x * x; let u = min(abs(x), T(4.0));
  let near = x * ${
  polynomial("z", [
    1.1283791,
    -0.37612626,
    0.11283585,
    -0.026853811,
    0.0051883277,
    -8.0101925e-4,
    7.853858e-5,
  ])
};
  let far = T(1.0) - exp(-${
  polynomial("u", [
    -1.8804023e-4,
    1.1295785,
    0.6332199,
    0.10841858,
    -0.025208257,
    0.004204562,
    -4.4133637e-4,
    2.168685e-5,
  ])
});
  return select(near, select(far, -far, x < T(0.0)), z >= T(1.0)); // NaN is near.
}`;

/**
 * `sinOf(x, q)`: the sine of x plus q quarter turns; x is taken modulo a quarter turn, in four parts,
 * which is exact up to about 10⁴.
 */
export const SIN = `fn sinOf(x: T, q: T) -> T {
  let k = round(x * T(0.63661977));
  let r = ((x - k * T(1.5703125)) - k * T(4.837513e-4)) - k * T(7.5495336e-8) - k * T(2.563344e-12);
  let z = r * r;
  let s = r + r * z * ${polynomial("z", [-0.16666654, 0.008332131, -1.951087e-4])};
  let c = T(1.0) - T(0.5) * z + z * z * ${
  polynomial("z", [0.041666646, -0.0013887306, 2.443124e-5])
};
  let turn = k + q; let quarter = turn - T(4.0) * floor(turn * T(0.25));
  let y = select(s, c, (quarter == T(1.0)) | (quarter == T(3.0)));
  return select(y, -y, quarter >= T(2.0));
}`;
