import sys
import tempfile

redis = Redis(port=int(sys.argv[1]), socket_timeout=60)
with tempfile.TemporaryDirectory() as folder:
    redis.execute_command("GW.LOGPUSH", "log:requests", "RECORDS", '{"id":1}', '{"id":2}')
    # A shipper dies after it has written the object: the batch is delivered again under the same name.
    batch_id, records, _ = redis.execute_command("GW.LOGPOP", "log:requests", "COUNT", 10_000, "LEASE", 60_000)
    with gzip.open(os.path.join(folder, batch_id.decode() + ".jsonl.gz"), "wb") as file:
        file.writelines(record + b"\n" for record in records)
    redis.execute_command("GW.LOGNACK", "log:requests", batch_id)
    redis.execute_command("GW.LOGPUSH", "log:requests", "RECORDS", '{"id":3}')
    paths = [ship(redis, "log:requests", folder) for _ in range(2)]
    assert ship(redis, "log:requests", folder, wait_ms=10) is None
    assert paths[0].endswith(batch_id.decode() + ".jsonl.gz") and paths == sorted(paths)
    assert sorted(os.listdir(folder)) == [os.path.basename(path) for path in paths]
    lines = [line for path in paths for line in gzip.open(path)]
    assert lines == [b'{"id":1}\n', b'{"id":2}\n', b'{"id":3}\n'], lines
print("ok")
