/** What Node has of WebAssembly and @types/node does not declare, as far as it is used here. */
export type CompiledModule = object;

export const assembly: {
  Module: new (bytes: Uint8Array) => CompiledModule;
  Instance: new (module: CompiledModule) => { readonly exports: object };
  validate(bytes: Uint8Array): boolean;
} = Reflect.get(globalThis, "WebAssembly");
