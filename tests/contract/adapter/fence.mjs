// Each case of a file against the page's fence: the first that differs ends it.
import {readFileSync} from "node:fs";
const [, , fence, cases] = process.argv;
const {findFenceFault} = await import(fence);
for (const {facts, order, fault} of JSON.parse(readFileSync(cases))) {
  const found = findFenceFault({...facts, keysUsed: new Set(facts.keysUsed)}, order);
  if (found !== fault) {
    console.error(JSON.stringify({facts, order, fault, found}));
    process.exit(1);
  }
}
