/**
 * The symbols by which what is done with is disposed of, for browsers that have none. Modules with such
 * a method import this. They get the symbols that compilers put in the place of missing ones, so a
 * caller's `using` works where it is compiled to something older.
 *
 * @module
 */

for (const name of ["dispose", "asyncDispose"]) {
  if (name in Symbol) continue;
  Object.defineProperty(Symbol, name, { value: Symbol.for(`Symbol.${name}`) });
}
