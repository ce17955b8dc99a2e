"""Where plans are kept: what goes when there is no room, and sessions where nothing can be stored, deleted or read."""

from __future__ import annotations

from tests.support.kept_plans import X, fixed

from .api_page import Api


def test_what_is_used_least_goes_first(kept: Api) -> None:
    """By number, and by size."""
    got = kept.run("""async () => {
      const { load, save } = await import('/api/plan-store.js');
      const limits = { entries: 2, bytes: 2900 };
      const there = async () => Promise.all(['a', 'b', 'c'].map(async (key) => Boolean(await load(key))));
      const tick = () => new Promise((later) => setTimeout(later, 3));   // the clock goes in milliseconds
      await save('a', { of: new Uint8Array(100) }, limits);
      await tick();
      await save('b', { of: new Uint8Array(100) }, limits);
      await tick();
      await load('a');
      await tick();
      await save('c', { of: new Uint8Array(100) }, limits);
      const found = [await there()];
      await tick();
      await save('b', { of: new Uint8Array(2800) }, limits);
      found.push(await there());
      found.push(await save('b', { of: new Uint8Array(5000) }, limits), await there());
      return found;
    }""")
    assert got == [[True, False, True], [False, True, False], False, [False, True, False]]


def test_sessions_work_where_nothing_can_be_stored(kept: Api) -> None:
    """A full disk, storage that is blocked, and a user who wants none."""
    got = kept.run(
        f"""async (path) => {{
          const {{ put }} = IDBObjectStore.prototype;
          IDBObjectStore.prototype.put = () => {{ throw new DOMException('full', 'QuotaExceededError'); }};
          const found = [];
          try {{
            const {{ session, outputs }} = await visit(path, {{ x: {X} }});
            const {{ save, load }} = await import('/api/plan-store.js');
            found.push(outputs.z.data.length, await save('k', 1), (await load('k')) ?? null, session.stats().kept);
            await session.release();
          }} finally {{ IDBObjectStore.prototype.put = put; }}
          const {{ open }} = IDBFactory.prototype;
          IDBFactory.prototype.open = () => {{ throw new DOMException('blocked', 'SecurityError'); }};
          try {{
            const {{ save, load }} = await import('/api/plan-store.js?blocked');
            found.push(await save('k', 1), (await load('k')) ?? null);
          }} finally {{ IDBFactory.prototype.open = open; }}
          await left(path, {{ x: {X} }});
          const {{ env }} = (await import('/nnjit.js')).default;
          env.plans = false;
          try {{
            const {{ session, kept }} = await visit(path, {{ x: {X} }});
            await session.release();
            await until(async () => (await entry()) === 0);
            found.push(kept);
          }} finally {{ env.plans = true; }}
          return found;
        }}""",
        kept.put("kept-fixed.onnx", fixed()),
    )
    assert got == [6, False, None, "", False, None, ""]


def test_a_plan_of_no_use_that_cannot_be_deleted_is_used_once(kept: Api) -> None:
    """Else the session would start over with the same plan for ever."""
    got = kept.run(
        f"""async (path) => {{
          const [first] = await left(path, {{ x: {X} }});
          await rewritten((e) => {{ e.plans[0].answer.plan.module.fill(0, 8); }});
          const names = ['delete', 'clear', 'put'];
          const were = names.map((name) => IDBObjectStore.prototype[name]);
          const stuck = () => {{ throw new DOMException('stuck', 'UnknownError'); }};
          for (const name of names) IDBObjectStore.prototype[name] = stuck;
          try {{
            const {{ session, outputs, asked, kept }} = await visit(path, {{ x: {X} }});
            await session.release();
            return [first, outputs, asked.filter((method) => method === 'prepare').length, kept];
          }} finally {{ names.forEach((name, i) => {{ IDBObjectStore.prototype[name] = were[i]; }}); }}
        }}""",
        kept.put("kept-fixed.onnx", fixed()),
    )
    assert got[0] == got[1] and got[2:] == [1, ""]


def test_storage_that_does_not_answer_is_not_waited_for(kept: Api) -> None:
    """Neither to be opened nor to be read; once it has answered it is asked again."""
    got = kept.run("""async () => {
      const { database } = await import('/api/database.js');
      const read = (transact) => transact('s', 'readonly', (store) => store('s').get('k'));
      const { open } = IDBFactory.prototype;
      IDBFactory.prototype.open = () => ({});   // its events never come
      let silent;
      try {
        silent = await read(database('nnjit-silent', ['s'], 'nothing is', 20)) ?? null;
      } finally { IDBFactory.prototype.open = open; }
      const transact = database('nnjit-slow', ['s'], 'nothing is', 20);
      await transact('s', 'readwrite', (store) => store('s').put('v', 'k'));
      let busy = true;
      const writer = transact('s', 'readwrite', (store) => {
        const again = () => { if (busy) store('s').get('k').onsuccess = again; };
        again();
      });
      const slow = [await read(transact) ?? null, await read(transact) ?? null];
      busy = false;
      await writer;
      await until(async () => (await read(transact)) === 'v');
      return [silent, ...slow];
    }""")
    assert got == [None, None, None]
