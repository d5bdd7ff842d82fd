"""Programs that do work through a broker, and know nothing of it but its public protocol.

They are meant to be read and copied: `producer` publishes jobs by REST, `ws_consumer` and `longpoll_consumer` take
them, `demo` runs all three against a broker of its own. `jobs` is the work itself, `wire` what the programs share.
"""
