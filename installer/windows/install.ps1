<#
.SYNOPSIS
Installs the Sallyport agent from the folder that this script lies in, or takes it away.

.DESCRIPTION
For machines where the package for Windows Installer is not wanted. Copies the program into %ProgramFiles%\Sallyport, puts
that folder into the machine's search path, joins the gateway if a file with a join string is given, and has the program make
itself a service (sallyport-agent service install). It may be run again: what is right stays, a newer program replaces an older one.

Configuration, key and secrets are in %ProgramData%\Sallyport. They stay, unless -Purge is given.

Run it in a console with administrator's rights:
  powershell -ExecutionPolicy Bypass -File install.ps1

.PARAMETER JoinFile
File with the join string that 'sallyport-relay gateway add' printed. Not read if this machine has joined already.

.PARAMETER Account
Account of the service: CORP\gmsa-sallyport$, or CORP\name or .\name, whose password is asked for. Without it the service has an
account of its own.

.PARAMETER Uninstall
Stops and removes the service, and removes the program.

.PARAMETER Purge
With -Uninstall: removes %ProgramData%\Sallyport as well: configuration, key, secrets, record.

.EXAMPLE
.\install.ps1 -JoinFile C:\temp\join.txt

.EXAMPLE
.\install.ps1 -Account 'CORP\gmsa-sallyport$' -WhatIf

.EXAMPLE
.\install.ps1 -Uninstall -Purge
#>
[CmdletBinding(SupportsShouldProcess = $true, DefaultParameterSetName = 'Install')]
param(
    [Parameter(ParameterSetName = 'Install')] [string] $JoinFile,
    [Parameter(ParameterSetName = 'Install')] [string] $Account,
    [Parameter(ParameterSetName = 'Uninstall', Mandatory = $true)] [switch] $Uninstall,
    [Parameter(ParameterSetName = 'Uninstall')] [switch] $Purge
)

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

# Asked of Windows, not of the environment, which whoever starts this may have changed.
$programs = Join-Path ([Environment]::GetFolderPath('ProgramFiles')) 'Sallyport'
$state = Join-Path ([Environment]::GetFolderPath('CommonApplicationData')) 'Sallyport'
$agent = Join-Path $programs 'sallyport-agent.exe'
$files = @('sallyport-agent.exe', 'agent.example.yaml', 'CHANGELOG.md', 'install.ps1')

function Assert-Administrator {
    $me = [Security.Principal.WindowsIdentity]::GetCurrent()
    $role = [Security.Principal.WindowsBuiltInRole]::Administrator
    if (-not (New-Object Security.Principal.WindowsPrincipal $me).IsInRole($role)) {
        throw "This needs administrator's rights: open a console with 'Run as administrator'."
    }
    if (-not [Environment]::Is64BitProcess) {
        throw 'This is a 32-bit PowerShell. Start the one in C:\Windows\System32\WindowsPowerShell\v1.0.'
    }
}

# Invoke-Agent runs the installed program, and ends this script if it fails.
function Invoke-Agent([string[]] $Arguments) {
    & $agent @Arguments
    if ($LASTEXITCODE -ne 0) {
        throw "sallyport-agent $($Arguments -join ' ') ended with $LASTEXITCODE; what it said is above."
    }
}

# Set-SearchPath leaves the values in the machine's search path that name other variables as they are.
function Set-SearchPath([bool] $Present) {
    $key = [Microsoft.Win32.Registry]::LocalMachine.OpenSubKey('SYSTEM\CurrentControlSet\Control\Session Manager\Environment', $true)
    try {
        $old = [string] $key.GetValue('Path', '', [Microsoft.Win32.RegistryValueOptions]::DoNotExpandEnvironmentNames)
        $parts = @($old -split ';' | Where-Object { $_ -ne '' -and $_.TrimEnd('\') -ne $programs })
        if ($Present) { $parts += $programs }
        $new = $parts -join ';'
        if ($new -ne $old -and $PSCmdlet.ShouldProcess("the machine's search path", $(if ($Present) { "add $programs" } else { "remove $programs" }))) {
            $key.SetValue('Path', $new, [Microsoft.Win32.RegistryValueKind]::ExpandString)
        }
    } finally {
        $key.Close()
    }
}

function Copy-Program {
    if (-not $PSCmdlet.ShouldProcess($programs, 'copy the program into it')) { return }
    if (Get-Service -Name 'sallyport-agent' -ErrorAction SilentlyContinue) {
        if (Test-Path -LiteralPath $agent) { Invoke-Agent @('service', 'stop') }
    }
    New-Item -ItemType Directory -Path $programs -Force | Out-Null
    foreach ($file in $files) {
        $from = Join-Path $PSScriptRoot $file
        if ($from -ne (Join-Path $programs $file)) {
            Copy-Item -LiteralPath $from -Destination $programs -Force
            Unblock-File -LiteralPath (Join-Path $programs $file)
        }
    }
}

function Install-Agent {
    foreach ($file in $files) {
        if (-not (Test-Path -LiteralPath (Join-Path $PSScriptRoot $file))) {
            throw "$file does not lie beside this script: unpack the whole archive."
        }
    }
    $join = ''
    if ($JoinFile -and -not (Test-Path -LiteralPath (Join-Path $state 'identity.json'))) {
        $join = (Resolve-Path -LiteralPath $JoinFile).ProviderPath
    }
    Copy-Program
    Set-SearchPath $true
    if ($join -and $PSCmdlet.ShouldProcess($state, "join with the string in $join")) {
        Invoke-Agent @('join', '--file', $join)
    }
    $install = @('service', 'install')
    if ($Account) { $install += @('--account', $Account) }
    if ($PSCmdlet.ShouldProcess('sallyport-agent', "make it a service: sallyport-agent $($install -join ' ')")) {
        Invoke-Agent $install
    }
}

function Uninstall-Agent {
    if ((Test-Path -LiteralPath $agent) -and $PSCmdlet.ShouldProcess('sallyport-agent', 'stop and remove the service')) {
        Invoke-Agent @('service', 'uninstall')
    }
    Set-SearchPath $false
    if ((Test-Path -LiteralPath $programs) -and $PSCmdlet.ShouldProcess($programs, 'remove the program')) {
        Remove-Item -LiteralPath $programs -Recurse -Force
    }
    if (-not $Purge) {
        Write-Output "Configuration and key stay in $state; -Uninstall -Purge removes them as well."
    } elseif ((Test-Path -LiteralPath $state) -and $PSCmdlet.ShouldProcess($state, 'remove configuration, key, secrets and record')) {
        Remove-Item -LiteralPath $state -Recurse -Force
    }
}

Assert-Administrator
if ($Uninstall) { Uninstall-Agent } else { Install-Agent }
