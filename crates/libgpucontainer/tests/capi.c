/* Uses the whole of gpucontainer.h on a made-up host: capi CONFIG ROOTFS PID.
   Prints what it finds; ends with 1 at the first surprise. */
#include <gpucontainer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(what)                                                              \
    do {                                                                         \
        if (!(what)) {                                                           \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #what, gpc_error(context)); \
            return 1;                                                            \
        }                                                                        \
    } while (0)

static int same(const char *text, const char *wanted)
{
    return text != NULL && strcmp(text, wanted) == 0;
}

/* Every function with nothing, and with fields that there are not. */
static int survives_nothing(gpc_context *context, gpc_inventory *inventory)
{
    CHECK(gpc_discover(NULL) == NULL);
    CHECK(same(gpc_error(NULL), "no context"));
    CHECK(gpc_set_root(context, NULL) == -1 && same(gpc_error(context), "root is null"));
    CHECK(gpc_set_config(context, "relative") == -1);
    CHECK(gpc_set_driver_root(context, "") == -1 && gpc_set_hook(context, NULL) == -1);
    CHECK(gpc_inventory_from_json(context, NULL) == NULL);
    CHECK(gpc_inventory_from_json(context, "{") == NULL);
    CHECK(gpc_inventory_from_json(context, "\xff") == NULL);
    CHECK(gpc_inventory_to_json(context, NULL) == NULL && gpc_cdi_spec(context, NULL) == NULL);
    CHECK(gpc_driver_version(NULL) == NULL && gpc_cuda_version(NULL) == -1);
    CHECK(gpc_file_count(NULL) == 0 && gpc_file_text(NULL, 0, 0) == NULL);
    CHECK(gpc_gpu_count(NULL) == 0 && gpc_gpu_text(NULL, 0, 0) == NULL);
    CHECK(gpc_gpu_number(NULL, 0, 0) == -1 && gpc_gpu_number(inventory, 0, 99) == -1);
    CHECK(gpc_gpu_text(inventory, 99, 0) == NULL && gpc_gpu_text(inventory, 0, 99) == NULL);
    CHECK(gpc_mig_count(NULL, 0) == 0 && gpc_mig_text(NULL, 0, 0, 0) == NULL);
    CHECK(gpc_mig_number(inventory, 0, 0, 0) == -1 && gpc_mig_text(inventory, 0, 9, 0) == NULL);
    CHECK(gpc_request_from_env(context, NULL) == NULL);
    CHECK(gpc_request_from_config(context, "[") == NULL && gpc_request_is_some(NULL) == 0);
    CHECK(gpc_request_add_device(context, NULL, "0") == -1);
    CHECK(gpc_request_set(context, NULL, GPC_REQUEST_OPTION_MIG_CONFIG, 1) == -1);
    CHECK(gpc_plan(context, inventory, NULL) == NULL && gpc_plan(context, NULL, NULL) == NULL);
    CHECK(gpc_edits_apply(context, NULL, "{}") == NULL && gpc_edits_to_cdi(context, NULL) == NULL);
    CHECK(gpc_inject(context, NULL, 1, "/r", 0) == -1);
    CHECK(gpc_inject_pidfd(context, NULL, -1, "/r", 0) == -1);
    gpc_context_free(NULL);
    gpc_inventory_free(NULL);
    gpc_request_free(NULL);
    gpc_edits_free(NULL);
    gpc_string_free(NULL);
    return 0;
}

static int looks(gpc_context *context, gpc_inventory *inventory)
{
    CHECK(same(gpc_driver_version(inventory), "1.2.3") && gpc_cuda_version(inventory) == 12040);
    CHECK(gpc_gpu_count(inventory) == 2 && gpc_file_count(inventory) == 1);
    CHECK(same(gpc_gpu_text(inventory, 1, GPC_GPU_TEXT_FIELD_UUID), "GPU-1aaa"));
    CHECK(same(gpc_gpu_text(inventory, 0, GPC_GPU_TEXT_FIELD_NODE), "/dev/nvidia0"));
    CHECK(gpc_gpu_text(inventory, 0, GPC_GPU_TEXT_FIELD_BRAND) == NULL);
    CHECK(gpc_gpu_number(inventory, 1, GPC_GPU_NUMBER_FIELD_MINOR) == 1);
    CHECK(gpc_gpu_number(inventory, 1, GPC_GPU_NUMBER_FIELD_COMPUTE_MAJOR) == -1);
    CHECK(gpc_mig_count(inventory, 0) == 0 && gpc_mig_count(inventory, 1) == 1);
    CHECK(same(gpc_mig_text(inventory, 1, 0, GPC_MIG_TEXT_FIELD_UUID), "MIG-1"));
    CHECK(gpc_mig_number(inventory, 1, 0, GPC_MIG_NUMBER_FIELD_GPU_INSTANCE) == 7);
    CHECK(same(gpc_file_text(inventory, 0, GPC_FILE_TEXT_FIELD_KIND), "library"));
    CHECK(same(gpc_file_text(inventory, 0, GPC_FILE_TEXT_FIELD_SONAME), "libcuda.so.1"));

    char *json = gpc_inventory_to_json(context, inventory);
    CHECK(json != NULL && strstr(json, "GPU-1aaa"));
    gpc_inventory *again = gpc_inventory_from_json(context, json);
    CHECK(again != NULL && gpc_gpu_count(again) == 2);
    gpc_inventory_free(again);
    gpc_string_free(json);

    char *spec = gpc_cdi_spec(context, inventory);
    CHECK(spec != NULL && strstr(spec, "\"nvidia.com/gpu\"") && strstr(spec, "/dev/nvidia1"));
    gpc_string_free(spec);
    return 0;
}

static int plans(gpc_context *context, gpc_inventory *inventory)
{
    const char *environment[] = {"NVIDIA_VISIBLE_DEVICES=0", "PATH=/bin", NULL};
    gpc_request *request = gpc_request_from_env(context, environment);
    CHECK(request != NULL && gpc_request_is_some(request) == 1);
    gpc_edits *edits = gpc_plan(context, inventory, request);
    CHECK(edits != NULL);
    char *config = gpc_edits_apply(context, edits, "{\"process\":{\"env\":[]},\"odd\":1}");
    CHECK(config != NULL && strstr(config, "/dev/nvidia0") && strstr(config, "\"odd\":1"));
    CHECK(!strstr(config, "/dev/nvidia1") && strstr(config, "/usr/bin/my-hook"));
    gpc_string_free(config);
    CHECK(gpc_edits_apply(context, edits, "not JSON") == NULL);
    char *cdi = gpc_edits_to_cdi(context, edits);
    CHECK(cdi != NULL && strstr(cdi, "\"deviceNodes\""));
    gpc_string_free(cdi);
    gpc_edits_free(edits);
    gpc_request_free(request);

    request = gpc_request_from_config(context, "{\"process\":{\"env\":[\"A=b\"]}}");
    CHECK(request != NULL && gpc_request_is_some(request) == 0);
    gpc_request_free(request);

    request = gpc_request_new(context);
    CHECK(request != NULL && gpc_request_add_device(context, request, "7") == 0);
    CHECK(gpc_plan(context, inventory, request) == NULL);
    CHECK(strstr(gpc_error(context), "no GPU \"7\""));
    gpc_request_free(request);

    request = gpc_request_new(context);
    CHECK(gpc_request_add_requirement(context, request, "cuda>=99.0") == 0);
    CHECK(gpc_plan(context, inventory, request) == NULL);
    CHECK(strstr(gpc_error(context), "cuda>=99.0"));
    CHECK(gpc_request_add_capability(context, request, "odd") == -1);
    CHECK(gpc_request_add_imex_channel(context, request, "odd") == -1);
    CHECK(gpc_request_add_imex_channel(context, request, "0") == 0);
    CHECK(gpc_request_set(context, request, GPC_REQUEST_OPTION_MIG_MONITOR, 1) == 0);
    CHECK(gpc_request_set(context, request, 99, 1) == -1);
    gpc_request_free(request);
    return 0;
}

static int injects(gpc_context *context, gpc_inventory *inventory, const char *rootfs, int pid)
{
    gpc_request *request = gpc_request_new(context);
    CHECK(gpc_request_add_device(context, request, "GPU-0aaa") == 0);
    CHECK(gpc_request_add_capability(context, request, "compute") == 0);
    gpc_edits *edits = gpc_plan(context, inventory, request);
    CHECK(edits != NULL);
    CHECK(gpc_inject(context, edits, pid, "/", GPC_INJECT_FLAG_NO_CGROUPS) == -1);
    CHECK(gpc_inject(context, edits, 0, rootfs, GPC_INJECT_FLAG_NO_CGROUPS) == -1);
    CHECK(gpc_inject(context, edits, 1, "rootfs", GPC_INJECT_FLAG_NO_CGROUPS) == -1);
    if (pid > 0) {
        CHECK(gpc_inject(context, edits, getpid(), rootfs, 4 | GPC_INJECT_FLAG_NO_CGROUPS) == -1);
        CHECK(strstr(gpc_error(context), "flags 0x5"));
        CHECK(gpc_inject(context, edits, getpid(), rootfs, GPC_INJECT_FLAG_NO_CGROUPS) == -1);
        CHECK(strstr(gpc_error(context), " is in our own mount namespace"));
        CHECK(gpc_inject(context, edits, pid, "/no/such/dir", GPC_INJECT_FLAG_NO_CGROUPS) == -1);
        CHECK(strstr(gpc_error(context), "/no/such/dir"));
        CHECK(gpc_inject(context, edits, pid, rootfs, GPC_INJECT_FLAG_NO_CGROUPS) == 0);
    }
    gpc_edits_free(edits);
    gpc_request_free(request);
    return 0;
}

int main(int argc, char **argv)
{
    gpc_context *context = gpc_context_new();
    if (argc != 4 || context == NULL)
        return 2;
    CHECK(gpc_set_config(context, argv[1]) == 0 && same(gpc_error(context), ""));
    CHECK(gpc_set_hook(context, "/usr/bin/my-hook") == 0);
    gpc_inventory *inventory = gpc_discover(context);
    CHECK(inventory != NULL);
    if (survives_nothing(context, inventory) || looks(context, inventory)
        || plans(context, inventory) || injects(context, inventory, argv[2], atoi(argv[3])))
        return 1;
    gpc_inventory_free(inventory);
    gpc_context_free(context);
    printf("gpucontainer %s\n", gpc_version());
    return 0;
}
