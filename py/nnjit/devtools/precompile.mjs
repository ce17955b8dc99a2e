// precompile.py in Pyodide, where no CPython of its version is at hand: node precompile.mjs PYODIDE JOBS.json
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [pyodide, jobs] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(join(pyodide, 'pyodide.mjs')).href);
const python = await loadPyodide({ indexURL: pyodide, fullStdLib: false });
python.mountNodeFS('/host', '/');
const script = readFileSync(new URL('precompile.py', import.meta.url), 'utf8');
const given = JSON.parse(readFileSync(jobs, 'utf8'));
const inside = given.map((job) => ({ ...job, source: `/host${job.source}`, target: `/host${job.target}` }));
python.globals.set('given', JSON.stringify(inside));
python.globals.set('__name__', 'precompile');
python.runPython(`${script}\nrun(json.loads(given))`);
process.exit(0);
