"""stranger.py GPUS SLICES VERSION: checks what nvidia-ml-py finds in the fake driver. Fails with an AssertionError."""

import sys

from pynvml import (
    NVMLError,
    NVMLError_InvalidArgument,
    NVMLError_NotFound,
    NVMLError_Uninitialized,
    nvmlDeviceGetAttributes,
    nvmlDeviceGetBrand,
    nvmlDeviceGetComputeInstanceId,
    nvmlDeviceGetCount,
    nvmlDeviceGetCudaComputeCapability,
    nvmlDeviceGetDeviceHandleFromMigDeviceHandle,
    nvmlDeviceGetGpuInstanceId,
    nvmlDeviceGetHandleByIndex,
    nvmlDeviceGetHandleByPciBusId,
    nvmlDeviceGetHandleByUUID,
    nvmlDeviceGetIndex,
    nvmlDeviceGetMaxMigDeviceCount,
    nvmlDeviceGetMemoryInfo,
    nvmlDeviceGetMigDeviceHandleByIndex,
    nvmlDeviceGetMigMode,
    nvmlDeviceGetMinorNumber,
    nvmlDeviceGetName,
    nvmlDeviceGetPciInfo,
    nvmlDeviceGetUUID,
    nvmlDeviceIsMigDeviceHandle,
    nvmlInit,
    nvmlShutdown,
    nvmlSystemGetCudaDriverVersion,
    nvmlSystemGetDriverVersion,
)


def refused(error, call, *args):
    try:
        call(*args)
    except error:
        return
    except NVMLError as other:
        raise AssertionError(f"{call.__name__}{args}: {other!r}, not {error.__name__}") from other
    raise AssertionError(f"{call.__name__}{args} was answered")


def slice_of(gpu, uuid, number):
    piece = nvmlDeviceGetMigDeviceHandleByIndex(gpu, number)
    # Some versions of the client return the C value itself.
    is_slice = nvmlDeviceIsMigDeviceHandle(piece)
    assert getattr(is_slice, "value", is_slice) == 1
    assert nvmlDeviceGetUUID(piece).startswith("MIG-")
    parent = nvmlDeviceGetDeviceHandleFromMigDeviceHandle(piece)
    assert nvmlDeviceGetUUID(parent) == uuid
    assert nvmlDeviceGetAttributes(piece).gpuInstanceSliceCount == 1
    return nvmlDeviceGetGpuInstanceId(piece), nvmlDeviceGetComputeInstanceId(piece)


def main(gpus, slices, version):
    refused(NVMLError_Uninitialized, nvmlDeviceGetCount)
    nvmlInit()
    assert nvmlSystemGetDriverVersion() == version
    assert nvmlSystemGetCudaDriverVersion() >= 12000
    assert nvmlDeviceGetCount() == gpus
    uuids = set()
    for index in range(gpus):
        gpu = nvmlDeviceGetHandleByIndex(index)
        uuid = nvmlDeviceGetUUID(gpu)
        uuids.add(uuid)
        assert nvmlDeviceGetName(gpu)
        assert nvmlDeviceGetIndex(gpu) == index
        assert nvmlDeviceGetMinorNumber(gpu) == index
        assert list(nvmlDeviceGetCudaComputeCapability(gpu)) == [9, 0]
        assert nvmlDeviceGetMemoryInfo(gpu).total > 0
        nvmlDeviceGetBrand(gpu)
        bus = nvmlDeviceGetPciInfo(gpu).busId
        for other in (nvmlDeviceGetHandleByUUID(uuid), nvmlDeviceGetHandleByPciBusId(bus)):
            assert nvmlDeviceGetIndex(other) == index
        assert nvmlDeviceGetMigMode(gpu)[0] == (1 if slices else 0)
        if slices:
            assert nvmlDeviceGetMaxMigDeviceCount(gpu) >= slices
            instances = {slice_of(gpu, uuid, number) for number in range(slices)}
            assert len(instances) == slices
        refused(NVMLError_NotFound, nvmlDeviceGetMigDeviceHandleByIndex, gpu, slices)
    assert len(uuids) == gpus
    refused(NVMLError_InvalidArgument, nvmlDeviceGetHandleByIndex, gpus)
    refused(NVMLError_NotFound, nvmlDeviceGetHandleByUUID, "GPU-00000000-0000-0000-0000-000000000000")
    nvmlShutdown()
    refused(NVMLError_Uninitialized, nvmlDeviceGetCount)
    print(f"{gpus} GPUs with {slices} slices each: ok")


main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
