# packer build gpusetup.pkr.hcl: builds an Ubuntu machine image with Docker and GPU containers. The builder needs no
# GPU; a machine that is started from the image describes its GPUs at the first boot. For another cloud, change only
# the source.
packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3.0"
    }
  }
}

variable "repository" {
  type    = string
  default = "https://packages.example.com/gpusetup"
}

source "amazon-ebs" "ubuntu" {
  ami_name      = "gpu-containers-{{timestamp}}"
  instance_type = "t3.small"
  region        = "eu-central-1"
  ssh_username  = "ubuntu"
  source_ami_filter {
    filters     = { name = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*" }
    owners      = ["099720109477"]
    most_recent = true
  }
}

build {
  sources = ["source.amazon-ebs.ubuntu"]

  provisioner "shell" {
    environment_vars = ["DEBIAN_FRONTEND=noninteractive"]
    execute_command  = "sudo env {{ .Vars }} sh -eux {{ .Path }}"
    inline = [
      "cloud-init status --wait",
      "curl -fsSL ${var.repository}/deb/gpusetup.sources -o /etc/apt/sources.list.d/gpusetup.sources",
      "apt-get update",
      "apt-get install -y docker.io nvidia-headless-580-server-open nvidia-utils-580-server gpusetup",
      "gpusetup install --yes --image",
      "cloud-init clean --logs",
    ]
  }
}
