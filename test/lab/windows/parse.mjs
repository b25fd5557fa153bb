// parse.mjs - says of PowerShell scripts where they do not parse, by the grammar that Visual Studio Code brings. There is no
// PowerShell here; this finds a brace that is missing, not a command that is.
//
//   node parse.mjs FOLDER-OF-NODE_MODULES SCRIPT...
import fs from 'node:fs'
import path from 'node:path'
import { createRequire } from 'node:module'

const [modules, ...scripts] = process.argv.slice(2)
const wasm = path.resolve(modules, '@vscode/tree-sitter-wasm/wasm')
const { Parser, Language } = createRequire(import.meta.url)(path.join(wasm, 'tree-sitter.js'))
await Parser.init({ locateFile: (name) => path.join(wasm, name) })
const parser = new Parser()
parser.setLanguage(await Language.load(path.join(wasm, 'tree-sitter-powershell.wasm')))

let faults = 0
function look(script, node) {
  if (node.isError || node.isMissing) {
    faults++
    const at = node.startPosition
    console.error(`${script}:${at.row + 1}:${at.column + 1}: does not parse: ${node.isMissing ? node.type : node.text.slice(0, 80)}`)
    return
  }
  node.children.forEach((child) => look(script, child))
}
for (const script of scripts) look(script, parser.parse(fs.readFileSync(script, 'utf8')).rootNode)
process.exit(faults ? 1 : 0)
