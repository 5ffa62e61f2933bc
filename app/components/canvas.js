// What the canvases share; joined to each of them by its Python half.

// Base 64 as bytes, or as 32-bit floats for the kind "f4".
const decode = (text, kind) => {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
  return kind === "f4" ? new Float32Array(bytes.buffer) : bytes;
};

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// What outlives a rerun: the view, the pointer and the listeners. One per mounted element.
const mounts = new WeakMap();

// What Python sent: bytes of JSON, or the value itself.
const told = (data) => (data instanceof Uint8Array ? JSON.parse(new TextDecoder().decode(data)) : data);

// Whether two messages say the same, byte for byte.
const equal = (a, b) => a instanceof Uint8Array && b instanceof Uint8Array && a.length === b.length && a.every((byte, i) => byte === b[i]);
