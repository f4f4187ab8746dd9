// libgpucontainer.so.1: reads what a host has of GPUs, and gives it to containers.
//
// A function that can fail has a context as its first argument and returns NULL or -1 on failure.
// gpc_error then returns the reason, until the next call with that context. A null pointer where a
// value is required is a failure; freeing null does nothing. A char * that is returned belongs to
// the caller and must be freed with gpc_string_free; a const char * lives as long as the object it
// comes from. Strings are UTF-8. An object must be used by only one thread at a time.
//
// Generated from the library's source; do not edit.

#ifndef GPUCONTAINER_H
#define GPUCONTAINER_H

#include <stddef.h>
#include <stdint.h>

// Fields for `gpc_gpu_text`. NULL if the value is unknown.
typedef enum {
  // `GPU-…`
  GPC_GPU_TEXT_FIELD_UUID = 0,
  // Product name.
  GPC_GPU_TEXT_FIELD_NAME = 1,
  // Product line; known only from NVML.
  GPC_GPU_TEXT_FIELD_BRAND = 2,
  // PCI address, `0000:3b:00.0`.
  GPC_GPU_TEXT_FIELD_PCI = 3,
  // `/dev/nvidiaN`, as containers see it.
  GPC_GPU_TEXT_FIELD_NODE = 4,
} gpc_gpu_text_field;

// Fields for `gpc_gpu_number`. -1 if the value is unknown.
typedef enum {
  // NVML's index.
  GPC_GPU_NUMBER_FIELD_INDEX = 0,
  // The N of `/dev/nvidiaN`.
  GPC_GPU_NUMBER_FIELD_MINOR = 1,
  // Compute capability, major number.
  GPC_GPU_NUMBER_FIELD_COMPUTE_MAJOR = 2,
  // Compute capability, minor number.
  GPC_GPU_NUMBER_FIELD_COMPUTE_MINOR = 3,
  // 1 if the GPU is partitioned, else 0.
  GPC_GPU_NUMBER_FIELD_MIG_ENABLED = 4,
} gpc_gpu_number_field;

// Fields for `gpc_mig_text`. NULL if the value is unknown.
typedef enum {
  // `MIG-…`
  GPC_MIG_TEXT_FIELD_UUID = 0,
  // `1g.10gb`
  GPC_MIG_TEXT_FIELD_PROFILE = 1,
} gpc_mig_text_field;

// Fields for `gpc_mig_number`.
typedef enum {
  // The second number of `0:1`.
  GPC_MIG_NUMBER_FIELD_INDEX = 0,
  // GPU instance id.
  GPC_MIG_NUMBER_FIELD_GPU_INSTANCE = 1,
  // Compute instance id.
  GPC_MIG_NUMBER_FIELD_COMPUTE_INSTANCE = 2,
} gpc_mig_number_field;

// Fields for `gpc_file_text`.
typedef enum {
  // `library`, `library32`, `binary`, `firmware`, `config`, `socket` or `x-module`.
  GPC_FILE_TEXT_FIELD_KIND = 0,
  // Path in containers.
  GPC_FILE_TEXT_FIELD_PATH = 1,
  // Path on the host.
  GPC_FILE_TEXT_FIELD_HOST_PATH = 2,
  // `DT_SONAME` of a library; NULL for others.
  GPC_FILE_TEXT_FIELD_SONAME = 3,
} gpc_file_text_field;

// Options for `gpc_request_set`.
typedef enum {
  // Partition the GPUs.
  GPC_REQUEST_OPTION_MIG_CONFIG = 0,
  // Monitor all slices.
  GPC_REQUEST_OPTION_MIG_MONITOR = 1,
} gpc_request_option;

// Flags for `gpc_inject`, to be added up.
typedef enum {
  // Do not change the device cgroup.
  GPC_INJECT_FLAG_NO_CGROUPS = 1,
  // Mount no device nodes, because the caller has made them.
  GPC_INJECT_FLAG_NO_DEVBIND = 2,
} gpc_inject_flag;

// Everything that one container gets.
typedef struct gpc_edits gpc_edits;

// A container's request.
typedef struct gpc_request gpc_request;

// Options for all calls, and the reason why the last call failed.
typedef struct gpc_context gpc_context;

// Everything on a host that containers can be given.
typedef struct gpc_inventory gpc_inventory;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The library's version, such as `0.1.0`. The string is valid as long as the program runs.
const char *gpc_version(void);

// Makes a context for the running host, to be freed with `gpc_context_free`.
gpc_context *gpc_context_new(void);

// Frees a context. Objects made with it stay valid.
void gpc_context_free(gpc_context *context);

// Why the last call with this context failed; empty if it succeeded. Valid until the next call with
// the context.
const char *gpc_error(const gpc_context *context);

// Frees a string that this library returned as `char *`.
void gpc_string_free(char *text);

// Reads the tree below `root` instead of `/`. Returns 0 or -1.
int32_t gpc_set_root(gpc_context *context, const char *root);

// Sets where in that tree the driver's user space is, such as `/run/nvidia/driver`. Returns 0 or -1.
int32_t gpc_set_driver_root(gpc_context *context,
                            const char *root);

// Sets the policy's file, instead of `/etc/nvidia-container-runtime/config.toml`. Returns 0 or -1.
int32_t gpc_set_config(gpc_context *context, const char *file);

// Sets the path of our hook's program on the host, instead of `/usr/bin/gpu-container-hook`. Returns 0 or -1.
int32_t gpc_set_hook(gpc_context *context,
                     const char *program);

// Plans what a container with this request gets on a host. NULL on failure, for instance if a
// requested device does not exist.
gpc_edits *gpc_plan(gpc_context *context,
                    const gpc_inventory *inventory,
                    const gpc_request *request);

// Frees edits.
void gpc_edits_free(gpc_edits *edits);

// The edits as CDI `containerEdits` in JSON, to be freed with `gpc_string_free`. NULL on failure.
char *gpc_edits_to_cdi(gpc_context *context, const gpc_edits *edits);

// Applies the edits to an OCI config.json. Returns the new config, to be freed with
// `gpc_string_free`; everything else in it is kept. NULL on failure.
char *gpc_edits_apply(gpc_context *context, const gpc_edits *edits, const char *config);

// Applies the edits to a container that exists but has not started. Returns 0 or -1; after a
// failure all mounts are removed.
//
// `pid` is the number, in the caller's pid namespace, of a process in the container's namespaces.
// `rootfs` is the path of the container's root file system in its mount namespace, which must not be
// the caller's. `flags` is a sum of `gpc_inject_flag`. The namespaces are entered by a child process,
// so the calling process keeps its own and may have any number of threads.
int32_t gpc_inject(gpc_context *context,
                   const gpc_edits *edits,
                   int32_t pid,
                   const char *rootfs,
                   uint32_t flags);

// Like `gpc_inject`, with the process given by a descriptor from `pidfd_open(2)`, which cannot refer
// to another process later. The descriptor still belongs to the caller. Returns 0 or -1.
int32_t gpc_inject_pidfd(gpc_context *context,
                         const gpc_edits *edits,
                         int32_t pidfd,
                         const char *rootfs,
                         uint32_t flags);

// Reads the host's inventory: the stored one if it is fresh, else from /proc, sysfs and the driver's
// files. NULL on failure. A host without a driver is not a failure.
gpc_inventory *gpc_discover(gpc_context *context);

// Makes an inventory from JSON, as returned by `gpc_inventory_to_json` or stored in
// `/run/gpusetup/inventory.json`. NULL on failure.
gpc_inventory *gpc_inventory_from_json(gpc_context *context, const char *json);

// The whole inventory as JSON, to be freed with `gpc_string_free`. NULL on failure.
char *gpc_inventory_to_json(gpc_context *context, const gpc_inventory *inventory);

// The CDI spec of all devices as JSON, to be freed with `gpc_string_free`. NULL on failure, for
// instance if the host has no driver.
char *gpc_cdi_spec(gpc_context *context, const gpc_inventory *inventory);

// Frees an inventory. Strings that it returned become invalid.
void gpc_inventory_free(gpc_inventory *inventory);

// Version of the loaded driver; NULL if none is loaded.
const char *gpc_driver_version(const gpc_inventory *inventory);

// Highest CUDA version of the driver, as 1000 times the major plus 10 times the minor
// (as `cuDriverGetVersion`); -1 if it is unknown.
int64_t gpc_cuda_version(const gpc_inventory *inventory);

// Number of the driver's files; 0 for null.
size_t gpc_file_count(const gpc_inventory *inventory);

// Returns a field of the file with index `file`. `field` is one of `gpc_file_text_field`. NULL if there is none.
const char *gpc_file_text(const gpc_inventory *inventory,
                          size_t file,
                          uint32_t field);

// Number of GPUs; 0 for null.
size_t gpc_gpu_count(const gpc_inventory *inventory);

// Returns a field of the GPU with index `gpu`. `field` is one of `gpc_gpu_text_field`. NULL if there is none.
const char *gpc_gpu_text(const gpc_inventory *inventory,
                         size_t gpu,
                         uint32_t field);

// Returns a field of the GPU with index `gpu`. `field` is one of `gpc_gpu_number_field`. -1 if there is none.
int64_t gpc_gpu_number(const gpc_inventory *inventory,
                       size_t gpu,
                       uint32_t field);

// Number of slices of the GPU with index `gpu`; 0 if there is no such GPU.
size_t gpc_mig_count(const gpc_inventory *inventory, size_t gpu);

// Returns a field of a slice. `field` is one of `gpc_mig_text_field`. NULL if there is none.
const char *gpc_mig_text(const gpc_inventory *inventory, size_t gpu, size_t slice, uint32_t field);

// Returns a field of a slice. `field` is one of `gpc_mig_number_field`. -1 if there is none.
int64_t gpc_mig_number(const gpc_inventory *inventory, size_t gpu, size_t slice, uint32_t field);

// Makes a request for only the driver's control nodes, to which more can be added. NULL on failure.
gpc_request *gpc_request_new(gpc_context *context);

// Reads the request of an unprivileged container with this environment, a list of `NAME=value` that
// ends with NULL, like `environ`. NULL on failure.
gpc_request *gpc_request_from_env(gpc_context *context, const char *const *environment);

// Reads the request of a container with this OCI config, by environment and mounts, as far as the
// policy allows it. NULL on failure.
gpc_request *gpc_request_from_config(gpc_context *context, const char *config);

// Frees a request.
void gpc_request_free(gpc_request *request);

// 1 if the container requests anything, else 0.
int32_t gpc_request_is_some(const gpc_request *request);

// Adds a device: `all`, an index, a UUID or `gpu:slice`. Returns 0 or -1.
int32_t gpc_request_add_device(gpc_context *context, gpc_request *request, const char *device);

// Adds a word of `NVIDIA_DRIVER_CAPABILITIES`. Returns 0 or -1.
int32_t gpc_request_add_capability(gpc_context *context, gpc_request *request, const char *word);

// Adds a requirement in the syntax of `NVIDIA_REQUIRE_CUDA`, such as `cuda>=12.4`. Returns 0 or -1.
int32_t gpc_request_add_requirement(gpc_context *context,
                                    gpc_request *request,
                                    const char *requirement);

// Adds an IMEX channel by its number, or `all`. Returns 0 or -1.
int32_t gpc_request_add_imex_channel(gpc_context *context,
                                     gpc_request *request,
                                     const char *channel);

// Turns an option of `gpc_request_option` on (not 0) or off (0). Returns 0 or -1.
int32_t gpc_request_set(gpc_context *context, gpc_request *request, uint32_t option, int32_t on);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* GPUCONTAINER_H */
