// cdi-reference DIR…: reads the CDI specs of each directory with the Go reference implementation, as engines do,
// validates them against its JSON schema, and injects every device of every spec into an empty OCI config. Prints
// what it did; exits 1 at the first error.
package main

import (
	"fmt"
	"os"

	"github.com/container-orchestrated-devices/container-device-interface/pkg/cdi"
	"github.com/container-orchestrated-devices/container-device-interface/schema"
	oci "github.com/opencontainers/runtime-spec/specs-go"
)

func main() {
	if len(os.Args) < 2 {
		fail("usage: cdi-reference DIR…")
	}
	for _, dir := range os.Args[1:] {
		if err := check(dir); err != nil {
			fail(fmt.Sprintf("%s: %v", dir, err))
		}
	}
}

func check(dir string) error {
	schema.Set(schema.BuiltinSchema())
	registry, err := cdi.NewCache(cdi.WithSpecDirs(dir), cdi.WithAutoRefresh(false))
	if err != nil {
		return err
	}
	for path, errs := range registry.GetErrors() {
		return fmt.Errorf("%s: %v", path, errs)
	}
	names := registry.ListDevices()
	if len(names) == 0 {
		return fmt.Errorf("no devices")
	}
	for _, vendor := range registry.ListVendors() {
		for _, spec := range registry.GetVendorSpecs(vendor) {
			if err := schema.ValidateFile(spec.GetPath()); err != nil {
				return fmt.Errorf("%s: %v", spec.GetPath(), err)
			}
		}
	}
	for _, name := range names {
		config := &oci.Spec{}
		missing, err := registry.InjectDevices(config, name)
		if err != nil || len(missing) > 0 {
			return fmt.Errorf("%s: %v, unresolved %v", name, err, missing)
		}
		if config.Linux == nil || len(config.Linux.Devices) == 0 {
			return fmt.Errorf("%s: gives no device node", name)
		}
	}
	fmt.Printf("%s: %d devices read, valid by schema, injected\n", dir, len(names))
	return nil
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, "cdi-reference: "+why)
	os.Exit(1)
}
