"""What tests in pages wait with: `until` for a state, `inTime` for the end of a whole script. Both end, and say what
they waited for, so that a test that would hang fails with a reason, and its own clean-up is done.

`await until(() => session.stats().plans > 1)` looks every few milliseconds; `until(what, told)` puts what `told()`
gives into its error, too. What a test holds back must be there before what it waits for begins: a gate that is made
when somebody comes to it may be opened before.
"""

from __future__ import annotations

UNTIL_S = 90
"""A state that a busy machine reaches late; a third of a test's limit, so that what follows can still be said."""
SCRIPT_S = 240
"""A script as a whole, below the limit of 300 s of a test, which would end its page."""

# Tests replace clocks: these are the browser's own.
WAITING = f"""(() => {{
  const {{ setTimeout, performance }} = globalThis;
  const now = performance.now.bind(performance);
  const sleep = (ms) => new Promise((later) => setTimeout(later, ms));
  const waits = new Set();
  const shown = (what) => String(what).replace(/\\s+/g, ' ').slice(0, 200);
  globalThis.until = async (what, told = () => '', seconds = {UNTIL_S}) => {{
    waits.add(what);
    try {{
      for (const end = now() + 1000 * seconds; !(await what()); await sleep(5)) {{
        if (now() < end) continue;
        throw new Error(`not so after ${{seconds}} s: ${{shown(what)}} ${{JSON.stringify(await told())}}`);
      }}
    }} finally {{
      waits.delete(what);
    }}
  }};
  globalThis.inTime = async (script, given, seconds = {SCRIPT_S}) => {{
    let timer;
    const late = new Promise((_, reject) => {{
      timer = setTimeout(() => {{
        const named = [...waits].map(shown).join('; ') || 'no until()';
        reject(new Error(`not over after ${{seconds}} s, waits for ${{named}}: ${{shown(script)}}`));
      }}, 1000 * seconds);
    }});
    try {{
      return await Promise.race([typeof script === 'function' ? script(given) : script, late]);
    }} finally {{
      clearTimeout(timer);
    }}
  }};
}})()"""
