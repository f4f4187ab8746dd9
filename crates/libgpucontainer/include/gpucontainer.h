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

// The library's version, such as `0.1.0`. Lives as long as the program.
const char *gpc_version(void);

// A new context for the running host; `gpc_context_free` ends it.
gpc_context *gpc_context_new(void);

// Ends a context. Objects made with it live on.
void gpc_context_free(gpc_context *context);

// Why the last call with this context failed; empty where it did not. Lives until the next
// call with it.
const char *gpc_error(const gpc_context *context);

// Frees a text that this library returned as `char *`.
void gpc_string_free(char *text);

// Looks at the tree below `root` instead of `/`. 0 or -1.
int32_t gpc_set_root(gpc_context *context, const char *root);

// Where in that tree the driver's user space lives, such as `/run/nvidia/driver`. 0 or -1.
int32_t gpc_set_driver_root(gpc_context *context, const char *root);

// The policy's file instead of `/etc/nvidia-container-runtime/config.toml`. 0 or -1.
int32_t gpc_set_config(gpc_context *context, const char *file);

// Our hook's program on the host, instead of `/usr/bin/gpu-container-hook`. 0 or -1.
int32_t gpc_set_hook(gpc_context *context, const char *program);

// What a container with that request gets on that host. NULL on failure, such as a device
// that is not there.
gpc_edits *gpc_plan(gpc_context *context,
                    const gpc_inventory *inventory,
                    const gpc_request *request);

// Ends a plan.
void gpc_edits_free(gpc_edits *edits);

// The plan as CDI says it, a `containerEdits` in JSON, for `gpc_string_free`. NULL on
// failure.
char *gpc_edits_to_cdi(gpc_context *context, const gpc_edits *edits);

// An OCI config.json with the plan carried out in it, for `gpc_string_free`. What the
// config has besides stays. NULL on failure.
char *gpc_edits_apply(gpc_context *context, const gpc_edits *edits, const char *config);

// Carries the plan out in a container that exists and has not started: `pid` is a process
// in its namespaces by its number in the caller's pid namespace, `rootfs` its root file system as
// its mount namespace sees it, which must not be the caller's; `flags` a sum of `gpc_inject_flag`. A child of ours enters the namespaces and is waited for, so the
// calling process stays where it is, whatever threads it has. After a failure no mount is
// left. 0 or -1.
int32_t gpc_inject(gpc_context *context,
                   const gpc_edits *edits,
                   int32_t pid,
                   const char *rootfs,
                   uint32_t flags);

// The same for a process by its `pidfd_open(2)` descriptor, which stays the caller's: no
// other process that gets its number is taken for it. 0 or -1.
int32_t gpc_inject_pidfd(gpc_context *context,
                         const gpc_edits *edits,
                         int32_t pidfd,
                         const char *rootfs,
                         uint32_t flags);

// Looks at the host: at its stored inventory where that still holds, else at /proc, sysfs
// and the driver's files. NULL on failure. A host without a driver is no failure.
gpc_inventory *gpc_discover(gpc_context *context);

// Makes an inventory from JSON, as returned by `gpc_inventory_to_json` or stored in
// `/run/gpusetup/inventory.json`. NULL on failure.
gpc_inventory *gpc_inventory_from_json(gpc_context *context, const char *json);

// All of it as JSON, for `gpc_string_free`. NULL on failure.
char *gpc_inventory_to_json(gpc_context *context, const gpc_inventory *inventory);

// The CDI spec of all its devices as JSON, for `gpc_string_free`. NULL on failure, such as
// a host without a driver.
char *gpc_cdi_spec(gpc_context *context, const gpc_inventory *inventory);

// Ends an inventory, and the texts it lent.
void gpc_inventory_free(gpc_inventory *inventory);

// Version of the loaded driver; NULL where none is loaded.
const char *gpc_driver_version(const gpc_inventory *inventory);

// Highest CUDA version of the driver, as 1000 times the major plus 10 times the minor
// (`cuDriverGetVersion`); -1 where no source tells it.
int64_t gpc_cuda_version(const gpc_inventory *inventory);

// How many files the driver has; 0 for null.
size_t gpc_file_count(const gpc_inventory *inventory);

// A field of file `file`, one of `gpc_file_text_field`; NULL where there is none.
const char *gpc_file_text(const gpc_inventory *inventory, size_t file, uint32_t field);

// How many GPUs there are; 0 for null.
size_t gpc_gpu_count(const gpc_inventory *inventory);

// A field of GPU `gpu`, one of `gpc_gpu_text_field`; NULL where there is none.
const char *gpc_gpu_text(const gpc_inventory *inventory, size_t gpu, uint32_t field);

// A field of GPU `gpu`, one of `gpc_gpu_number_field`; -1 where there is none.
int64_t gpc_gpu_number(const gpc_inventory *inventory, size_t gpu, uint32_t field);

// How many slices GPU `gpu` has; 0 where there is no such GPU.
size_t gpc_mig_count(const gpc_inventory *inventory, size_t gpu);

// A field of a slice, one of `gpc_mig_text_field`; NULL where there is none.
const char *gpc_mig_text(const gpc_inventory *inventory, size_t gpu, size_t slice, uint32_t field);

// A field of a slice, one of `gpc_mig_number_field`; -1 where there is none.
int64_t gpc_mig_number(const gpc_inventory *inventory, size_t gpu, size_t slice, uint32_t field);

// A request for nothing but the driver's control nodes; add to it what is wanted. NULL on
// failure.
gpc_request *gpc_request_new(gpc_context *context);

// What a container of that environment asks for: a list of `NAME=value` that ends with
// NULL, as `environ`. It counts as unprivileged. NULL on failure.
gpc_request *gpc_request_from_env(gpc_context *context, const char *const *environment);

// What a container of that OCI config asks for, by environment, mounts and annotations, as
// far as the policy lets it. NULL on failure.
gpc_request *gpc_request_from_config(gpc_context *context, const char *config);

// Ends a request.
void gpc_request_free(gpc_request *request);

// 1 where it asks for anything, else 0.
int32_t gpc_request_is_some(const gpc_request *request);

// Adds a device: `all`, an index, a UUID, `gpu:slice`. 0 or -1.
int32_t gpc_request_add_device(gpc_context *context, gpc_request *request, const char *device);

// Adds a word of `NVIDIA_DRIVER_CAPABILITIES`. 0 or -1.
int32_t gpc_request_add_capability(gpc_context *context, gpc_request *request, const char *word);

// Adds a requirement, as `NVIDIA_REQUIRE_CUDA` would say it: `cuda>=12.4`. 0 or -1.
int32_t gpc_request_add_requirement(gpc_context *context,
                                    gpc_request *request,
                                    const char *requirement);

// Adds an IMEX channel by its number, or `all`. 0 or -1.
int32_t gpc_request_add_imex_channel(gpc_context *context,
                                     gpc_request *request,
                                     const char *channel);

// Turns an option on (not 0) or off (0), one of `gpc_request_option`. 0 or -1.
int32_t gpc_request_set(gpc_context *context, gpc_request *request, uint32_t option, int32_t on);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* GPUCONTAINER_H */
