import gc

from tests.support.live_router import CHAT, LiveRouter

BODY = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}


async def test_requests_leave_nothing_to_the_garbage_collector(router: LiveRouter) -> None:
    bodies = [BODY, BODY | {"stream": True}, BODY | {"model": "unknown"}, BODY | {"n": "x"}]
    for body in bodies:
        await router.http.post(CHAT, json=body)
    gc.collect()
    gc.freeze()  # what other tests have imported
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        statuses = [(await router.http.post(CHAT, json=body)).status_code for body in bodies]
        gc.collect()
        left = [one for one in gc.garbage if type(one).__module__.startswith("serving.")]
    finally:
        gc.set_debug(0)
        gc.unfreeze()
        gc.garbage.clear()
    assert statuses == [200, 200, 404, 400]
    assert left == []
