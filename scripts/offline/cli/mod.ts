/**
 * Offline stand-in for `@std/cli`: `parseArgs`, and `ProgressBar` under its own `unstable-…` entry.
 * Nothing else of the package.
 *
 * @module
 */

export * from "./parse_args.ts";
