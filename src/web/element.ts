/** Elements as expressions: `element("p", { class: "note" }, "text", child)`. Text is never parsed as HTML. */

type Content = Node | string | number | null | undefined | false;
type Attributes = Record<string, string | number | boolean | undefined>;

/** A new element. An attribute that is true has no value; one that is false or undefined is left out. */
export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...content: Content[]
): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : String(value));
  }
  fill(made, ...content);
  return made;
}

/** Replaces what is inside `parent`. */
export function fill(parent: Element, ...content: Content[]): void {
  const nodes = content.filter((item) => item !== null && item !== undefined && item !== false);
  parent.replaceChildren(...nodes.map((item) => (typeof item === "number" ? String(item) : item)));
}

/** The element of that id in the page. Throws if the page has none. */
export function byId(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) throw new Error(`#${id}: expected an element, got none`);
  return found;
}
