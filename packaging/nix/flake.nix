{
  description = "Sets up GPU containers on a host, and undoes it";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { nixpkgs, ... }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      each = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = each (pkgs: rec {
        # The start path's program is static, so it is built for musl.
        gpu-container-toolkit = pkgs.pkgsStatic.rustPlatform.buildRustPackage {
          pname = "gpu-container-toolkit";
          version = "0.1.0";
          src = ../..;
          cargoLock.lockFile = ../../Cargo.lock;
          cargoBuildFlags = [ "-p" "gpu-container" "--bin" "gpu-container" ];
          # The tests need root, containers and a fake driver.
          doCheck = false;
          postInstall = ''
            install -d $out/lib/gpu-container/bin
            mv $out/bin/gpu-container $out/lib/gpu-container/
            for name in gpu-container-runtime gpu-container-hook gpu-container-cli; do
              ln -s ../lib/gpu-container/gpu-container $out/bin/$name
            done
            for name in nvidia-container-runtime-hook nvidia-container-runtime{,.cdi,.legacy} nvidia-container-cli nvidia-cdi-hook nvidia-ctk; do
              ln -s ../gpu-container $out/lib/gpu-container/bin/$name
            done
            install -Dm644 -t $out/share/man/man1 packaging/man/gpu-container-*.1
            install -Dm644 -t $out/share/man/man5 packaging/man/gpu-container-*.5
            install -Dm644 -t $out/share/man/man8 packaging/man/gpu-container-*.8
            # For systemd.packages and services.udev.packages; NixOS enables a unit by wantedBy in its own
            # configuration.
            install -Dm644 -t $out/lib/systemd/system packaging/systemd/gpusetup-cdi.*
            install -Dm644 -t $out/lib/udev/rules.d packaging/udev/60-gpusetup-cdi.rules
            substituteInPlace $out/lib/systemd/system/gpusetup-cdi.service \
              --replace-fail /usr/lib/gpu-container $out/lib/gpu-container \
              --replace-fail 'exec modprobe' 'exec ${pkgs.kmod}/bin/modprobe'
            substituteInPlace $out/lib/udev/rules.d/60-gpusetup-cdi.rules \
              --replace-fail /bin/systemctl ${pkgs.systemd}/bin/systemctl
          '';
          meta.license = pkgs.lib.licenses.asl20;
        };
        gpusetup = pkgs.rustPlatform.buildRustPackage {
          pname = "gpusetup";
          version = "0.1.0";
          src = ../..;
          cargoLock.lockFile = ../../Cargo.lock;
          cargoBuildFlags = [ "-p" "gpusetup" ];
          doCheck = false;
          nativeBuildInputs = [ pkgs.installShellFiles ];
          postInstall = ''
            install -d pages
            $out/bin/gpusetup man --pages pages
            bash packaging/man/config-page $out/bin/gpusetup >pages/gpu-container-config.5
            installManPage pages/*.[15] packaging/man/gpusetup-receipt.5
            for shell in bash zsh fish; do
              $out/bin/gpusetup completions $shell >gpusetup.$shell
            done
            installShellCompletion gpusetup.{bash,zsh,fish}
          '';
          meta = {
            license = pkgs.lib.licenses.asl20;
            mainProgram = "gpusetup";
          };
        };
        default = gpusetup;
      });
    };
}
