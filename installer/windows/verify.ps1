#Requires -Version 5.1
<#
.SYNOPSIS
Says item by item whether the Sallyport agent is installed on this Windows as it should be.

.DESCRIPTION
It changes nothing, unless -Disrupt is given: then it ends the agent's process once, to see whether Windows starts it again, and
restarts the service, to see how long a drain takes. A service that is stopped is started for the time of a check alone. Run it as
administrator, in Windows PowerShell 5.1 or later.

Exit codes: 0 nothing failed, 1 something failed, 2 it could not begin (no administrator, no service).

.PARAMETER Api
The name of an API in agent.yaml that has a check (check: GET /health): it is called, with its sign-on.

.PARAMETER Caller
A person (user principal name or SID) in whose name an API with as: caller is called; with -Api. The service itself makes the call, with
the rights of its account.

.PARAMETER Url
The URL of an operation of a connector at the relay that needs no key: it is called, and so the running service has to sign on.

.EXAMPLE
powershell -ExecutionPolicy Bypass -File verify.ps1 -Api orders

.EXAMPLE
powershell -ExecutionPolicy Bypass -File verify.ps1 -Url https://relay.example.com/plant1/orders/health -Disrupt -Json
#>
[CmdletBinding()]
param(
    [string]$Api,
    [string]$Caller,
    [string]$Url,
    [switch]$Disrupt,
    [switch]$Json
)

Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'

$Name = 'sallyport-agent'
$Key = "HKLM:\SYSTEM\CurrentControlSet\Services\$Name"
$Folder = Join-Path ([Environment]::GetFolderPath('CommonApplicationData')) 'Sallyport'
$System = 'S-1-5-18'
$Administrators = 'S-1-5-32-544'
$TrustedInstaller = 'S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464'
$Results = New-Object System.Collections.ArrayList
try { [Console]::OutputEncoding = [Text.Encoding]::UTF8 } catch { Write-Verbose 'no console' } # the agent writes UTF-8

function Add-Result([string]$Item, [string]$Status, [string]$Detail) {
    $null = $Results.Add([pscustomobject]@{ item = $Item; status = $Status; detail = $Detail })
    if (-not $Json) { '{0,-5} {1}: {2}' -f $Status, $Item, $Detail | Write-Host }
}

# Test-Item runs one item: its block gives what was found, and throws what is wrong. $null means that it does not apply.
function Test-Item([string]$Item, [scriptblock]$Block) {
    try {
        $found = & $Block
        if ($null -eq $found) { Add-Result $Item 'SKIP' 'does not apply here' } else { Add-Result $Item 'PASS' ($found -join '; ') }
    }
    catch { Add-Result $Item 'FAIL' $_.Exception.Message }
}

function Get-Sid([string]$Account) {
    if ($Account -eq 'LocalSystem') { return $System }
    $Account = $Account -replace '^\.\\', "$env:COMPUTERNAME\"
    (New-Object System.Security.Principal.NTAccount $Account).Translate([System.Security.Principal.SecurityIdentifier]).Value
}

function Get-Value([string]$Path, [string]$Property) {
    $item = Get-ItemProperty -LiteralPath $Path -ErrorAction SilentlyContinue
    if ($null -ne $item -and $item.PSObject.Properties[$Property]) { $item.$Property } else { $null }
}

# Assert-Private throws if somebody else owns a path or has one of the rights on it.
function Assert-Private([string]$Path, [string[]]$Allowed, [int]$Rights) {
    $acl = Get-Acl -LiteralPath $Path
    $owner = $acl.GetOwner([System.Security.Principal.SecurityIdentifier]).Value
    if ($Allowed -notcontains $owner) { throw "$Path belongs to $($acl.Owner)" }
    foreach ($rule in $acl.GetAccessRules($true, $true, [System.Security.Principal.SecurityIdentifier])) {
        if (($rule.PropagationFlags -band [System.Security.AccessControl.PropagationFlags]::InheritOnly) -ne 0) { continue }
        $sid = $rule.IdentityReference.Value
        if ($rule.AccessControlType -eq 'Allow' -and $Allowed -notcontains $sid -and ([int]$rule.FileSystemRights -band $Rights) -ne 0) {
            # S-1-3-0 is CREATOR OWNER, S-1-3-4 OWNER RIGHTS: the owner was looked at already.
            if ($sid -ne 'S-1-3-0' -and $sid -ne 'S-1-3-4') { throw "$sid has rights on ${Path}: $($rule.FileSystemRights)" }
        }
    }
}

$Rights = [System.Security.AccessControl.FileSystemRights]
$Change = [int]($Rights::WriteData -bor $Rights::AppendData -bor $Rights::Delete -bor $Rights::DeleteSubdirectoriesAndFiles -bor
    $Rights::ChangePermissions -bor $Rights::TakeOwnership)
$Replace = [int]($Rights::Delete -bor $Rights::DeleteSubdirectoriesAndFiles -bor $Rights::ChangePermissions -bor $Rights::TakeOwnership)
$ReadOrChange = $Change -bor [int]$Rights::ReadData

# --- can it begin --------------------------------------------------------------------------------------------------------

$identity = [Security.Principal.WindowsIdentity]::GetCurrent()
$principal = New-Object Security.Principal.WindowsPrincipal $identity
if (-not $principal.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) {
    [Console]::Error.WriteLine("verify.ps1: open a console with 'Run as administrator'")
    exit 2
}
$service = Get-CimInstance Win32_Service -Filter "Name='$Name'"
if ($null -eq $service) {
    [Console]::Error.WriteLine("verify.ps1: there is no service $Name; 'sallyport-agent service install' makes it")
    exit 2
}
$account = $service.StartName
$accountSid = Get-Sid $account
$serviceSid = Get-Sid "NT SERVICE\$Name"
$ofDomain = $account -match '@' -or ($account -match '\\' -and $account -notmatch '^(\.|NT SERVICE|NT AUTHORITY)\\' -and
    $account -notlike "$env:COMPUTERNAME\*")
$isManaged = $account.EndsWith('$')
$exe = ''
if ($service.PathName -match '^"([^"]+)" service run') { $exe = $Matches[1] }

# --- the registration ------------------------------------------------------------------------------------------------------

Test-Item 'the path of the program is quoted' {
    if ($exe -eq '') { throw "the service manager has: $($service.PathName)" }
    if (-not (Test-Path -LiteralPath $exe -PathType Leaf)) { throw "$exe is not there" }
    $service.PathName
}
Test-Item 'only administrators can replace the program' {
    if ($exe -eq '') { throw 'where it lies is not known' }
    $who = $System, $Administrators, $TrustedInstaller, $identity.User.Value
    Assert-Private $exe $who $Change
    $up = Split-Path -Parent $exe
    Assert-Private $up $who $Change
    while ($up = Split-Path -Parent $up) { Assert-Private $up $who $Replace }
    $exe
}
Test-Item 'the signature of the program is good, so that its updates must have one by the same publisher' {
    if ($exe -eq '') { throw 'where it lies is not known' }
    $signature = Get-AuthenticodeSignature -LiteralPath $exe
    if ($signature.Status -eq 'NotSigned') { return }
    if ($signature.Status -ne 'Valid') { throw "$($signature.Status): $($signature.StatusMessage)" }
    $signature.SignerCertificate.Subject
}
Test-Item 'it starts with the machine' {
    if ($service.StartMode -ne 'Auto') { throw "its start is $($service.StartMode)" }
    $service.StartMode
}
Test-Item 'it does not run as SYSTEM' {
    if ($accountSid -eq $System) { throw "it runs as $account" }
    $account
}
Test-Item 'it waits for Netlogon' {
    if (-not $ofDomain) { return }
    if (@(Get-Value $Key 'DependOnService') -notcontains 'Netlogon') { throw "an account of a domain, but it depends on: $(Get-Value $Key 'DependOnService')" }
    'Netlogon'
}
Test-Item 'Windows keeps the password of the managed account' {
    if (-not $isManaged) { return }
    $mark = Get-Value $Key 'ServiceAccountManaged'
    if ($null -eq $mark -or @($mark)[0] -ne 1) { throw "not marked: sc.exe managedaccount $Name TRUE" }
    $sam = ($account -split '\\')[-1].TrimEnd('$')
    if (Get-Command Test-ADServiceAccount -ErrorAction SilentlyContinue) {
        if (-not (Test-ADServiceAccount $sam)) { throw "this machine may not use ${sam}: PrincipalsAllowedToRetrieveManagedPassword" }
        return 'marked, and Test-ADServiceAccount says True'
    }
    'marked (no ActiveDirectory module here to ask more)'
}
# Get-Rights gives the lines of the machine's policy that say who has which right.
function Get-Rights {
    $file = Join-Path $env:TEMP ('sallyport-{0}.inf' -f [guid]::NewGuid())
    try {
        $null = & secedit.exe /export /areas USER_RIGHTS /cfg $file
        @(Get-Content -LiteralPath $file | Where-Object { $_ -match '^Se\w+\s*=' })
    }
    finally { Remove-Item -LiteralPath $file -ErrorAction SilentlyContinue }
}

# Assert-Right throws unless one of some SIDs, or the account by its name, has a right.
function Assert-Right([string[]]$Policy, [string]$Right, [string[]]$Sids) {
    $line = "$(@($Policy | Where-Object { $_ -match "^$Right\s*=" }))"
    $who = @($line -replace '^\w+\s*=\s*' -split ',' | ForEach-Object { $_.Trim().TrimStart('*') })
    $short = ($account -split '\\')[-1]
    if (-not ($who | Where-Object { $Sids -contains $_ -or $_ -eq $account -or $_ -eq $short })) { throw "$account is not named in: $Right = $($who -join ',')" }
}

Test-Item 'the account may log on as a service' {
    if ($account -match '^NT (SERVICE|AUTHORITY)\\') { return }
    $policy = Get-Rights
    if ("$(@($policy | Where-Object { $_ -match '^SeDenyServiceLogonRight\s*=' }))" -match [regex]::Escape($accountSid)) { throw 'it is denied that right' }
    Assert-Right $policy 'SeServiceLogonRight' @($accountSid)
    'SeServiceLogonRight'
}
# Without a keytab or a secret, as: caller goes by Windows, which wants more of the account than a service usually has.
Test-Item 'the account may act for callers by Windows (as: caller without a key)' {
    $file = Join-Path $Folder 'agent.yaml'
    if (-not (Test-Path -LiteralPath $file)) { return }
    $text = @(Get-Content -LiteralPath $file | Where-Object { $_ -notmatch '^\s*#' }) -join "`n"
    if ($text -notmatch 'as:\s*[''"]?caller[''"]?\s*([,}\r\n]|$)') { return }
    $policy = Get-Rights
    try {
        Assert-Right $policy 'SeTcbPrivilege' @($accountSid, $serviceSid)
        # Every service has it (S-1-5-6), and so have administrators.
        Assert-Right $policy 'SeImpersonatePrivilege' @($accountSid, $serviceSid, 'S-1-5-6', $Administrators)
    }
    catch { throw "$($_.Exception.Message); needed unless the APIs with as: caller name a keytab or a secret" }
    'SeTcbPrivilege, SeImpersonatePrivilege'
}
Test-Item 'the account may ask Azure Arc for tokens' {
    $file = Join-Path $Folder 'agent.yaml'
    if (-not (Test-Path -LiteralPath $file)) { return }
    if (-not (Select-String -LiteralPath $file -Pattern 'credential:\s*[''"]?arc\b' -Quiet)) { return }
    $members = @(Get-LocalGroupMember -Group 'Hybrid agent extension applications' | ForEach-Object { $_.SID.Value })
    if ($members -notcontains $accountSid) { throw "$account is not in the group 'Hybrid agent extension applications'" }
    "$account is in the group"
}
Test-Item 'it is restarted after a failure' {
    $said = (& sc.exe qfailure $Name) -join "`n"
    if ([regex]::Matches($said, '5000').Count -lt 2) { throw $said }
    if (((& sc.exe qfailureflag $Name) -join ' ') -notmatch 'TRUE|: 1') { throw 'not after an end with an error' }
    'after 5 s, also after an end with an error'
}
Test-Item 'it has time to drain when the machine shuts down' {
    $ms = Get-Value $Key 'PreshutdownTimeout'
    if ($null -eq $ms -or $ms -lt 30000) { throw "PreshutdownTimeout is $ms ms" }
    "$($ms / 1000) s"
}
Test-Item 'NT SERVICE\ and its name is in its token' {
    if ((Get-Value $Key 'ServiceSidType') -ne 1 -and $accountSid -ne $serviceSid) { throw "sc.exe qsidtype ${Name}: $(Get-Value $Key 'ServiceSidType')" }
    $serviceSid
}

# --- the folder ---------------------------------------------------------------------------------------------------------------

$ours = $System, $Administrators, $serviceSid, $accountSid
Test-Item 'the folder is for the service and the administrators alone' {
    if (((Get-Item -LiteralPath $Folder -Force).Attributes -band [IO.FileAttributes]::ReparsePoint) -ne 0) { throw "$Folder is a link" }
    if (-not (Get-Acl -LiteralPath $Folder).AreAccessRulesProtected) { throw "$Folder inherits rights" }
    Assert-Private $Folder $ours $ReadOrChange
    $count = 0
    foreach ($one in Get-ChildItem -LiteralPath $Folder -Recurse -Force) { Assert-Private $one.FullName $ours $ReadOrChange; $count++ }
    "$Folder and $count files and folders in it"
}
Test-Item 'the service cannot change agent.yaml' {
    $path = Join-Path $Folder 'agent.yaml'
    if (-not (Test-Path -LiteralPath $path)) { return }
    Assert-Private $path ($System, $Administrators) $Change
    $path
}
Test-Item 'secrets are sealed with DPAPI' {
    $files = @(Get-ChildItem -Path (Join-Path $Folder 'secrets\*.secret') -Force -ErrorAction SilentlyContinue)
    if ($files.Count -eq 0) { return }
    foreach ($file in $files) {
        $bytes = [IO.File]::ReadAllBytes($file.FullName)
        if ([Text.Encoding]::ASCII.GetString($bytes, 0, [Math]::Min(6, $bytes.Length)) -ne 'dpapi1') { throw "$($file.FullName) is not" }
    }
    "$($files.Count) secrets"
}

# --- the event log ---------------------------------------------------------------------------------------------------------------

Test-Item 'the event log knows the source' {
    $file = Get-Value "HKLM:\SYSTEM\CurrentControlSet\Services\EventLog\Application\$Name" 'EventMessageFile'
    if ("$file" -notmatch 'EventCreate\.exe$') { throw "EventMessageFile is '$file'" }
    $file
}
Test-Item 'the event log has the start and the link' {
    foreach ($id in 100, 120) {
        $last = Get-WinEvent -FilterHashtable @{ LogName = 'Application'; ProviderName = $Name; Id = $id } -MaxEvents 1 -ErrorAction SilentlyContinue
        if ($null -eq $last) { throw "there is no event $id" }
        if ($last.Message -notmatch 'agent starts|link up') { throw "the text of event $id is: $($last.Message)" }
    }
    $since = (Get-Date).AddDays(-1)
    $bad = @(Get-WinEvent -FilterHashtable @{ LogName = 'Application'; ProviderName = $Name; Level = 2; StartTime = $since } -ErrorAction SilentlyContinue)
    "$($bad.Count) errors since yesterday"
}

# --- it runs ------------------------------------------------------------------------------------------------------------------------

Test-Item 'it runs, as its account' {
    if ($service.State -ne 'Running') { throw "it is $($service.State), exit code $($service.ExitCode)" }
    $process = Get-CimInstance Win32_Process -Filter "ProcessId=$($service.ProcessId)"
    $owner = (Invoke-CimMethod -InputObject $process -MethodName GetOwnerSid).Sid
    if ($owner -ne $accountSid) { throw "process $($service.ProcessId) runs as $owner" }
    "process $($service.ProcessId)"
}
Test-Item 'it listens nowhere' {
    if ($service.State -ne 'Running') { throw 'it does not run' }
    # metrics.listen of agent.yaml can only be a loopback address.
    $tcp = @(Get-NetTCPConnection -OwningProcess $service.ProcessId -State Listen -ErrorAction SilentlyContinue |
        Where-Object { $_.LocalAddress -ne '127.0.0.1' -and $_.LocalAddress -ne '::1' })
    $udp = @(Get-NetUDPEndpoint -OwningProcess $service.ProcessId -ErrorAction SilentlyContinue)
    if ($tcp.Count + $udp.Count -gt 0) { throw "it listens: $(@($tcp) + @($udp) | ForEach-Object { "$($_.LocalAddress):$($_.LocalPort)" })" }
    'no TCP listener beyond loopback, no UDP endpoint'
}
Test-Item 'the machine trusts its domain' {
    if (-not (Get-CimInstance Win32_ComputerSystem).PartOfDomain) { return }
    if (-not (Test-ComputerSecureChannel)) { throw 'Test-ComputerSecureChannel says False' }
    'Test-ComputerSecureChannel says True'
}

# --- what the agent itself finds -----------------------------------------------------------------------------------------------------

function Invoke-Agent([string[]]$Arguments) {
    if ($exe -eq '') { throw 'where the program lies is not known' }
    $ErrorActionPreference = 'Continue' # what it says on standard error is no exception
    $all = @(& $exe @Arguments 2>&1)
    $code = $LASTEXITCODE
    $complaints = @($all | Where-Object { $_ -is [System.Management.Automation.ErrorRecord] })
    $said = @($all | Where-Object { $_ -isnot [System.Management.Automation.ErrorRecord] })
    [pscustomobject]@{ Code = $code; Said = $said -join "`n"; Complaint = $complaints -join ' ' }
}

Test-Item 'where the configuration leads, and through which proxy' {
    $ran = Invoke-Agent @('check', '--egress', '--json')
    if ($ran.Code -ne 0) { throw "exit code $($ran.Code): $($ran.Complaint)" }
    foreach ($to in @($ran.Said | ConvertFrom-Json) | ForEach-Object { $_ }) {
        $via = if ($to.PSObject.Properties['via']) { " via $($to.via)" } else { '' }
        '{0}:{1}{2}' -f $to.host, $to.port, $via
    }
}
Test-Item 'the system''s own proxy setting (WinHTTP)' { ((& netsh.exe winhttp show proxy) -join ' ') -replace '\s+', ' ' }

# By the service's own process, and so with its account, whatever kind of account that is.
$check = @('check', '--as-service', '--json')
if ($Api) { $check += '--api', $Api }
if ($Caller) { $check += '--caller', $Caller }
try {
    $ran = Invoke-Agent $check
    if ($ran.Said -eq '') { throw "exit code $($ran.Code): $($ran.Complaint)" }
    foreach ($finding in @($ran.Said | ConvertFrom-Json) | ForEach-Object { $_ }) {
        $status = @{ ok = 'PASS'; fail = 'FAIL'; warn = 'WARN'; skip = 'SKIP' }[$finding.status]
        $do = if ($finding.PSObject.Properties['do'] -and $finding.do) { " -> $($finding.do)" } else { '' }
        Add-Result "check (as $account) $($finding.id)" $status "$($finding.found)$do"
    }
}
catch { Add-Result 'sallyport-agent check --as-service' 'FAIL' $_.Exception.Message }

# Read-Entry gives the text of a file in a zip archive.
function Read-Entry([string]$Archive, [string]$Entry) {
    Add-Type -AssemblyName System.IO.Compression.FileSystem
    $zip = [System.IO.Compression.ZipFile]::OpenRead($Archive)
    try {
        $reader = [System.IO.StreamReader]::new($zip.GetEntry($Entry).Open()) # UTF-8
        $reader.ReadToEnd()
    }
    finally { $zip.Dispose() }
}

Test-Item 'the archive for who helps has the newest event and the log file' {
    $last = Get-WinEvent -FilterHashtable @{ LogName = 'Application'; ProviderName = $Name } -MaxEvents 1
    $archive = Join-Path $env:TEMP ('sallyport-{0}.zip' -f [guid]::NewGuid())
    try {
        $hours = [Math]::Ceiling(((Get-Date) - $last.TimeCreated).TotalHours) + 1
        $ran = Invoke-Agent @('support-bundle', '--out', $archive, '--since', "${hours}h")
        if ($ran.Code -ne 0) { throw "exit code $($ran.Code): $($ran.Complaint)" }
        $log = Read-Entry $archive 'log.txt'
        $wanted = $last.TimeCreated.ToUniversalTime().ToString('yyyy-MM-ddTHH:mm:ss', [Globalization.CultureInfo]::InvariantCulture) + 'Z'
        if ($log -notmatch "(?m)^$wanted \S+ +$Name $($last.Id) ") { throw "log.txt has no event $($last.Id) of $wanted; it ends: $($log.Substring([Math]::Max(0, $log.Length - 300)))" }
        if ((Read-Entry $archive 'agent.log') -notmatch 'msg=|"msg"') { throw 'agent.log is empty' }
        "event $($last.Id) of $wanted"
    }
    finally { Remove-Item -LiteralPath $archive -ErrorAction SilentlyContinue }
}

Test-Item 'a call through the relay, with the sign-on of the running service' {
    if (-not $Url) { return }
    [Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12
    $answer = Invoke-WebRequest -UseBasicParsing -Uri $Url -TimeoutSec 60
    "$($answer.StatusCode), $($answer.RawContentLength) bytes"
}

# --- only if it may be disturbed --------------------------------------------------------------------------------------------------------

function Wait-Until([int]$Seconds, [scriptblock]$Block) {
    $end = (Get-Date).AddSeconds($Seconds)
    while ((Get-Date) -lt $end) {
        if (& $Block) { return $true }
        Start-Sleep -Milliseconds 250
    }
    $false
}

Test-Item 'Windows starts it again when it dies' {
    if (-not $Disrupt) { return }
    $before = (Get-CimInstance Win32_Service -Filter "Name='$Name'").ProcessId
    # taskkill takes the right to end processes of other accounts, which administrators have and do not use unasked.
    $null = & taskkill.exe /F /PID $before
    if ($LASTEXITCODE -ne 0) { throw "taskkill could not end process $before" }
    $begun = Get-Date
    $back = Wait-Until 60 { $now = Get-CimInstance Win32_Service -Filter "Name='$Name'"; $now.State -eq 'Running' -and $now.ProcessId -ne $before }
    if (-not $back) { throw 'not within 60 s' }
    'after {0:n0} s' -f ((Get-Date) - $begun).TotalSeconds
}
Test-Item 'it stops and starts in good order' {
    if (-not $Disrupt) { return }
    $begun = Get-Date
    $ran = Invoke-Agent @('service', 'restart')
    if ($ran.Code -ne 0) { throw "service restart ended with $($ran.Code)" }
    'in {0:n0} s' -f ((Get-Date) - $begun).TotalSeconds
}

# --- what came of it ----------------------------------------------------------------------------------------------------------------------

$failed = @($Results | Where-Object { $_.status -eq 'FAIL' }).Count
if ($Json) { ConvertTo-Json -InputObject @($Results) -Depth 3 }
else { Write-Host ('{0} items, {1} failed' -f $Results.Count, $failed) }
if ($failed -gt 0) { exit 1 }
exit 0
