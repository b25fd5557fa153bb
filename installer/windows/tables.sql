-- What wixl 0.101 has no words for, or says wrong. One statement a line; build.sh has msibuild run them in turn.

-- Rollback (1280 = in the script, when it is rolled back) is a kind that wixl leaves out; 2048 = as SYSTEM, 64 = whatever comes of it, 18 = a program that was installed.
UPDATE `CustomAction` SET `Type` = 3410 WHERE `Action` = 'StartAgain'
UPDATE `CustomAction` SET `Type` = 3410 WHERE `Action` = 'InstallAgain'
UPDATE `CustomAction` SET `Type` = 3410 WHERE `Action` = 'UninstallAgain'

-- 8192 keeps the command line out of logs.
UPDATE `CustomAction` SET `Type` = 11282 WHERE `Action` = 'Join'
UPDATE `CustomAction` SET `Type` = 11282 WHERE `Action` = 'InstallAs'

-- With PURGE=1, once all else is done (1536 = when the script is committed, 34 = a program by its path).
INSERT INTO `CustomAction` (`Action`, `Type`, `Source`, `Target`) VALUES ('Purge', 3682, 'TARGETDIR', '"[System64Folder]cmd.exe" /d /c rd /s /q "[CommonAppDataFolder]Sallyport"')

-- JOINED is set if the agent has its key already: then nobody has to take JOINFILE out of a command line that is run again.
INSERT INTO `Signature` (`Signature`, `FileName`) VALUES ('Identity', 'identity.json')
INSERT INTO `AppSearch` (`Property`, `Signature_`) VALUES ('JOINED', 'Identity')
CREATE TABLE `DrLocator` (`Signature_` CHAR(72) NOT NULL, `Parent` CHAR(72), `Path` CHAR(255), `Depth` SHORT PRIMARY KEY `Signature_`, `Parent`, `Path`)
INSERT INTO `DrLocator` (`Signature_`, `Path`, `Depth`) VALUES ('Identity', '[CommonAppDataFolder]Sallyport', 0)
INSERT INTO `InstallExecuteSequence` (`Action`, `Sequence`) VALUES ('AppSearch', 50)

-- The machine's search path ends with the program's folder.
CREATE TABLE `Environment` (`Environment` CHAR(72) NOT NULL, `Name` CHAR(255) NOT NULL LOCALIZABLE, `Value` CHAR(255) LOCALIZABLE, `Component_` CHAR(72) NOT NULL PRIMARY KEY `Environment`)
INSERT INTO `Environment` (`Environment`, `Name`, `Value`, `Component_`) VALUES ('Path', '=-*PATH', '[~];[INSTALLDIR]', 'Program')
INSERT INTO `InstallExecuteSequence` (`Action`, `Sequence`) VALUES ('RemoveEnvironmentStrings', 3300)
INSERT INTO `InstallExecuteSequence` (`Action`, `Sequence`) VALUES ('WriteEnvironmentStrings', 5200)

-- The old version goes within the transaction: if the new one cannot be installed, the old one is back.
UPDATE `InstallExecuteSequence` SET `Sequence` = 1501 WHERE `Action` = 'RemoveExistingProducts'

-- A version of the same number replaces another: 1.2.1-dev5 and 1.2.1 are 1.2.1 to Windows Installer.
DELETE FROM `Upgrade` WHERE `ActionProperty` = 'WIX_UPGRADE_DETECTED'
INSERT INTO `Upgrade` (`UpgradeCode`, `VersionMax`, `Attributes`, `ActionProperty`) VALUES ('{@UPGRADE@}', '@VERSION@', 513, 'WIX_UPGRADE_DETECTED')

-- Taken from the command line of an administrator who is not running elevated.
UPDATE `Property` SET `Value` = 'ACCOUNT;JOINFILE;PURGE;WIX_DOWNGRADE_DETECTED;WIX_UPGRADE_DETECTED' WHERE `Property` = 'SecureCustomProperties'

-- The program's version, as in its resource.
UPDATE `File` SET `Version` = '@VERSION@.0', `Language` = '1033' WHERE `File` = 'agent.exe'
DELETE FROM `MsiFileHash` WHERE `File_` = 'agent.exe'
