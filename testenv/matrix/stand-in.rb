# frozen_string_literal: true

# stand-in.rb MATRIX.json: a stand-in for Vagrant that accepts what the Vagrantfile calls and refuses what Vagrant would:
# invalid host names, missing files, unknown settings. The argument is matrix.toml as JSON. Raises where a check fails.
require 'json'

# The settings of one provider.
class Provider
  attr_reader :seen

  def initialize(name)
    @known = name == :libvirt ? %w[memory cpus machine_type pci] : %w[memory cpus]
    @seen = {}
  end

  def method_missing(name, *args)
    key = name.to_s.delete_suffix('=')
    raise "a provider has no #{key}" unless @known.include?(key)

    @seen[key] = args.first
  end

  def respond_to_missing?(*) = true
end

# config.vm
class VM
  attr_accessor :box, :hostname
  attr_reader :machines, :providers, :provisions

  def initialize
    @machines = {}
    @providers = {}
    @provisions = {}
  end

  def synced_folder(*, **) = nil

  def define(name, autostart: true)
    raise "#{name} twice" if @machines[name]
    raise 'starts by itself' if autostart

    yield(@machines[name] = Config.new)
  end

  def provider(name)
    override = Config.new
    settings = Provider.new(name)
    yield settings, override
    @providers[name] = [settings.seen, override.vm.box]
  end

  def provision(name, type:, **rest)
    raise "#{rest[:path]} is not there" if rest[:path] && !File.executable?(rest[:path])

    @provisions[name] = rest.merge(type: type)
  end
end

# config
class Config
  attr_reader :vm

  def initialize = @vm = VM.new
end

# Vagrant
module Vagrant
  def self.configure(version)
    raise version unless version == '2'

    $config = Config.new
    yield $config
  end
end

def check(text, truth)
  raise "not ok - #{text}" unless truth
end

vagrantfile = File.expand_path('../../Vagrantfile', __dir__)
load vagrantfile
matrix = JSON.parse(File.read(ARGV.fetch(0)))
check 'the Vagrantfile reads matrix.toml as it is', MATRIX == matrix
names = matrix['hosts'].keys.product(matrix['engines'].keys).map { |pair| pair.join('-') }
machines = $config.vm.machines
check 'every host with every engine', machines.keys.sort == names.sort
machines.each do |name, machine|
  vm = machine.vm
  check "#{name}: host name", vm.hostname.match?(/\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\z/)
  check "#{name}: boxes", [vm.box, vm.providers[:virtualbox][1]].all? { |box| box.match?(%r{\A[\w.-]+/[\w.-]+\z}) }
  check "#{name}: memory and processors", vm.providers.values.all? { |seen, _| seen['memory'] >= 2048 && seen['cpus'] >= 1 }
  check "#{name}: steps", vm.provisions.keys == %w[engine clear payload place scenario]
  engine = vm.provisions['engine'][:args]
  check "#{name}: engine", name.end_with?("-#{engine[0]}") && engine[1] == matrix['engines'][engine[0]].fetch('version', '')
end

# With a GPU: libvirt passes it through, and no scenario is run before its driver is installed.
ENV['GPU'] = '0000:3b:00.0'
%i[TOP MATRIX PAYLOAD GPU].each { |name| Object.send(:remove_const, name) }
load vagrantfile
$config.vm.machines.each do |name, machine|
  pci = machine.vm.providers[:libvirt][0]['pci']
  check "#{name}: the GPU", pci == { domain: '0x0000', bus: '0x3b', slot: '0x00', function: '0x0' }
  check "#{name}: no scenario", !machine.vm.provisions.key?('scenario')
end
puts "ok - #{machines.length} machines, two providers, with a GPU and without"
