/**
 * Defines `Symbol.dispose` and `Symbol.asyncDispose` in browsers that lack them. Modules with such
 * a method import this. Compilers use the same symbols in place of missing ones, so `using` works
 * in code that is compiled for older browsers, too.
 *
 * @module
 */

for (const name of ["dispose", "asyncDispose"]) {
  if (name in Symbol) continue;
  Object.defineProperty(Symbol, name, { value: Symbol.for(`Symbol.${name}`) });
}
