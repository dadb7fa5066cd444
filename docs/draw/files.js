"use strict";

// The exported files. A web server gives the page the binaries themselves. From the disk no browser
// lets a page read a file, but it runs scripts: there each file has a twin in the folder "disk".
const Files = (() => {
  const FORMAT = "sfnn_pyro page 1";
  const AGAIN = "Export the run again with “sfnn export RUN --out FOLDER”.";

  /** An error whose message is a sentence for the person at the page. */
  class FileError extends Error {}

  const scripts = new Map();

  /** Called by the scripts in the folder "disk". */
  function provide(name, base64) {
    scripts.set(name, Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)));
  }

  function runScript(name) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `disk/${name}.js`;
      script.onload = resolve;
      script.onerror = () => reject(new FileError(`The file disk/${name}.js is missing. ${AGAIN}`));
      document.head.append(script);
    });
  }

  async function bytesOf(name) {
    if (location.protocol === "file:") {
      await runScript(name);
      if (!scripts.has(name)) throw new FileError(`The file disk/${name}.js is damaged. ${AGAIN}`);
      return scripts.get(name);
    }
    let response = null;
    try {
      response = await fetch(name);
    } catch {
      throw new FileError(`The file ${name} cannot be loaded: the server does not answer.`);
    }
    if (!response.ok) {
      throw new FileError(`The file ${name} is missing (the server says ${response.status}). ${AGAIN}`);
    }
    return new Uint8Array(await response.arrayBuffer());
  }

  function crc32(bytes) {
    let crc = ~0;
    for (const byte of bytes) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
    }
    return ~crc >>> 0;
  }

  async function checked(part) {
    const bytes = await bytesOf(part.file);
    if (bytes.length !== part.bytes || crc32(bytes) !== part.crc32) {
      throw new FileError(
        `The file ${part.file} is damaged: it has ${bytes.length} of ${part.bytes} bytes, or ` +
          `others than were exported. ${AGAIN}`,
      );
    }
    return bytes;
  }

  async function describe() {
    const bytes = await bytesOf("network.json");
    let description = null;
    try {
      description = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } catch {
      throw new FileError(`The file network.json is damaged: it is no JSON. ${AGAIN}`);
    }
    if (description.format !== FORMAT) {
      throw new FileError(
        `The file network.json is of the format “${description.format}”, and this page reads ` +
          `“${FORMAT}”. ${AGAIN}`,
      );
    }
    return description;
  }

  /** Everything that was exported; throws FileError with a sentence. */
  async function readExport() {
    const description = await describe();
    const read = async (part, make) => part && make(part, await checked(part));
    return {
      description,
      stochastic: await read(description.stochastic, Network.makeNetwork),
      deterministic: await read(description.deterministic, Network.makeNetwork),
      recognition: await read(description.recognition, Network.makeRecognition),
      examples: await read(description.examples, (part, bytes) => Network.decodeHalf(bytes)),
    };
  }

  return { FileError, provide, readExport };
})();
