"""How much memory devices have left, and how much of it was in use."""

from senet_jax.system import host_memory
from senet_jax.system.devices import Devices, local_devices


def free_memory(devices: Devices) -> int:
    """Bytes that every local device has left; 0 where they do not say, or it is the host's memory.

    CPUs do not say: what is on them is in the memory of the host already.
    """
    statistics = [device.memory_stats() or {} for device in local_devices(devices)]
    return min(each.get("bytes_limit", 0) - each.get("bytes_in_use", 0) for each in statistics)


def peak_memory(devices: Devices) -> int | None:
    """The most bytes that any local device has had in use; None where they do not say, as CPUs."""
    statistics = [device.memory_stats() or {} for device in local_devices(devices)]
    peaks = [each.get("peak_bytes_in_use") for each in statistics]
    return max((peak for peak in peaks if peak is not None), default=None)


class Peak:
    """The most bytes in use, on a local device and on the host, since this was made.

    A device keeps the peak of its whole process, in which other runs may have been before. The host
    is asked to forget that.
    """

    def __init__(self, devices: Devices) -> None:
        host_memory.forget_peak()
        self._devices, self._before = devices, peak_memory(devices)

    @property
    def bytes(self) -> int | None:
        """None where devices do not say it, as CPUs, or where it was no more than before."""
        peak = peak_memory(self._devices)
        return peak if peak != self._before else None

    @property
    def on_host(self) -> int:
        """Of this process alone."""
        return host_memory.peak()
