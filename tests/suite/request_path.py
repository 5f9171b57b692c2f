# Drives README's request path in Python, over a connection that speaks as redis-py does: prints what each request got.
import socket
class Raw:
    def __init__(self, port):
        self.file = socket.create_connection(("127.0.0.1", port)).makefile("rwb")
    def write(self, words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.file.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
    def read(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Exception(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        return [self.read() for _ in range(int(rest))] if kind == b"*" else rest
    def execute_command(self, *words):
        pipe = self.pipeline()
        pipe.execute_command(*words)
        return pipe.execute()[0]
    def pipeline(self, transaction=False):
        return Pipe(self)
class Pipe:
    def __init__(self, raw):
        self.raw, self.commands = raw, []
    def execute_command(self, *words):
        self.commands.append(words)
    def execute(self):
        for words in self.commands:
            self.raw.write(words)
        self.raw.file.flush()
        return [self.raw.read() for _ in self.commands]

def model(request):
    for step in range(1, 5):
        if request["cache_key"] == "chat:fails" and step == 3:
            raise RuntimeError("the model failed")
        yield b"piece%d " % step, {"tokens": 100 * step, "usd": "0.0%d" % step}

def run(cache_key, take=None):
    request = {"team": "ml", "key": "7", "user": "42", "tokens": 1000, "usd": "0.1", "cache_key": cache_key}
    status, fields, body = handle(redis, request, model)
    pieces = []
    try:
        for piece in body:
            pieces.append(piece.decode())
            if len(pieces) == take:
                body.close()
                break
    except RuntimeError:
        pieces.append("failed")
    return [status, "".join(pieces), fields]

redis = Raw(PORT)
print(json.dumps([run("chat:a"), run("chat:a"), run("chat:gone", 2), run("chat:fails"), run("chat:more")]))
